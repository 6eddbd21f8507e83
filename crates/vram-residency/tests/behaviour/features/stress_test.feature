Feature: Much, often, and at the edges
  Figures are those of the sources; what counts is that nothing is wrong and
  nothing leaks, not how long it takes.

  Scenario: Until nothing fits any more
    Given a worker with 20 MiB of VRAM
    When shards of 2 MiB are sealed until one is refused
    Then it is refused: not enough VRAM
    And 10 shards are held
    And every shard passes a full verification

  Scenario: A hundred times seal and free
    Given a worker with 4 MiB of VRAM
    When 64 KiB are sealed and freed 100 times
    Then 0 bytes of VRAM are in use
    And the event "vram.deallocated" was recorded 100 times

  Scenario: A larger model
    Given a worker with 16 MiB of VRAM
    When 10 MiB of weights are sealed as "large"
    Then it succeeds
    And shard "large" passes a full verification

  @slow
  Scenario: A thousand small ones
    Given a worker with 2100 MiB of VRAM
    When 1000 shards of 1 KiB are sealed
    Then 1000 shards are held
    And no two shards have the same name
    And the budget balances

  @slow
  Scenario: A thousand verifications of one
    Given a worker with 10 MiB of VRAM
    And 16 KiB of weights sealed as "model"
    When "model" is verified 1000 times
    Then all of them succeed
    And the event "seal.verified" was recorded 1000 times

  Scenario: Seal, verify, seal, verify
    Given a worker with 220 MiB of VRAM
    When 100 shards of 4 KiB are sealed, each verified at once
    Then all of them succeed

  Scenario: The budget is asked after every seal
    Given a worker with 110 MiB of VRAM
    When 50 shards of 4 KiB are sealed and the budget is read after each
    Then the budget balanced every time

  Scenario Outline: Sizes of every order
    Given a worker with 10 MiB of VRAM
    When <size> of weights are sealed as "model"
    Then it succeeds
    And the digest of "model" is that of its weights, 64 lower-case hex digits
    And shard "model" passes a full verification

    Examples:
      | size    |
      | 1 byte  |
      | 1 KiB   |
      | 10 KiB  |
      | 100 KiB |
      | 1 MiB   |

  Scenario: A thousand tags
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "model"
    When the tag of the record of "model" is computed 1000 times
    Then every tag is the one in the record

  Scenario: A thousand checks of a record
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "model"
    When the record of "model" is checked 1000 times
    Then all of them succeed

  Scenario: Digests of many lengths
    When digests of every length up to 300 bytes and around 4 KiB are computed
    Then no two of them are equal and each is the same when computed again

  Scenario: All zeros and all ones
    Given a worker with 10 MiB of VRAM
    When 1 MiB of bytes 0x00 are sealed as "zeros"
    And 1 MiB of bytes 0xFF are sealed as "ones"
    Then shard "zeros" passes a full verification
    And shard "ones" passes a full verification
    And "zeros" and "ones" have different digests

  @reused-memory
  Scenario: Memory is clean when it comes back
    Given a worker with 4 MiB of VRAM
    And 4 MiB of weights sealed as "secret"
    When "secret" is freed
    Then nothing of "secret" is in the memory that the device gives next
