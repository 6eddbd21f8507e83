Feature: Many threads at once

  Scenario: Ten threads seal
    Given a worker with 40 MiB of VRAM
    When 10 threads seal 256 KiB each
    Then 10 of them succeed and 0 find no room
    And no two shards have the same name
    And every shard passes a full verification

  Scenario: Ten threads verify one shard
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When 10 threads verify "model" in full
    Then all of them succeed
    And the event "seal.verified" was recorded 10 times

  Scenario: Sealing and verifying, interleaved
    Given a worker with 60 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When 20 threads seal 64 KiB each or verify "model", in turn
    Then all of them succeed
    And every shard passes a full verification

  Scenario: Reading the budget while it changes
    Given a worker with 40 MiB of VRAM
    When 20 threads read the budget while 8 seal and free 64 KiB each
    Then all of them succeed
    And the budget balanced every time
    And 0 bytes of VRAM are in use

  Scenario: More than fits
    Given a worker with 20 MiB of VRAM
    When 20 threads seal 2 MiB each
    Then 10 of them succeed and 10 find no room
    And no VRAM is available
    And every shard passes a full verification
