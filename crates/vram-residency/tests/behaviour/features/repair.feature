Feature: Repair
  Only the damaged blocks are rewritten, each checked before it is written.

  Scenario: From the original
    Given a worker with 10 MiB of VRAM
    And repair is allowed
    And failures are isolated
    And 1 MiB of weights sealed as "model"
    When a bit of "model" flips in device memory
    And "model" is verified in full
    And "model" is repaired from its weights
    Then it succeeds
    And 1 block was rewritten
    And the event "shard.repaired" was recorded once
    And "model" can still be leased

  Scenario: From something else
    Given a worker with 10 MiB of VRAM
    And repair is allowed
    And failures are isolated
    And 1 MiB of weights sealed as "model"
    When a bit of "model" flips in device memory
    And "model" is verified in full
    And "model" is repaired from other weights
    Then it is refused: not the sealed bytes
    And "model" cannot be leased: quarantined

  Scenario: Not unless the policy says so
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When "model" is repaired from its weights
    Then it is refused: policy: repair is off
