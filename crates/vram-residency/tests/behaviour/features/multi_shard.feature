Feature: Several shards on one device

  Scenario: Three shards are accounted for
    Given a worker with 30 MiB of VRAM
    When 5 MiB of weights are sealed as "a"
    And 5 MiB of weights are sealed as "b"
    And 5 MiB of weights are sealed as "c"
    Then 15 MiB of VRAM are in use
    And the event "vram.sealed" was recorded 3 times
    And no two shards have the same name

  Scenario: Each is verified on its own
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "a"
    And 1 MiB of weights sealed as "b"
    And 1 MiB of weights sealed as "c"
    Then shard "a" passes a full verification
    And shard "b" passes a full verification
    And shard "c" passes a full verification

  Scenario: Only the damaged one fails
    Given a worker with 10 MiB of VRAM
    And failures are isolated
    And 1 MiB of weights sealed as "a"
    And 1 MiB of weights sealed as "b"
    And 1 MiB of weights sealed as "c"
    When a bit of "b" flips in device memory
    Then shard "a" passes a full verification
    And shard "b" fails a full verification
    And shard "c" passes a full verification
    And only "b" is quarantined

  Scenario: Shards of different sizes
    Given a worker with 40 MiB of VRAM
    When 1 MiB of weights are sealed as "small"
    And 10 MiB of weights are sealed as "medium"
    And 20 MiB of weights are sealed as "large"
    Then 31 MiB of VRAM are in use
    And shard "small" passes a full verification
    And shard "medium" passes a full verification
    And shard "large" passes a full verification

  Scenario: The third does not fit
    Given a worker with 20 MiB of VRAM
    And 8 MiB of weights sealed as "a"
    And 8 MiB of weights sealed as "b"
    When 8 MiB of weights are sealed as "c"
    Then it is refused: not enough VRAM
    And 16 MiB of VRAM are in use
    And shard "a" passes a full verification
    And shard "b" passes a full verification
