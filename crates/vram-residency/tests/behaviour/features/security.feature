Feature: Adversaries

  Scenario: A forged tag
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When the record of "model" is presented with a forged tag
    Then it is refused: the record does not match its tag
    And the critical event "seal.verification_failed" was recorded once
    And "model" can still be leased

  Scenario: The bytes in VRAM change
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When a bit of "model" flips in device memory
    And "model" is verified in full
    Then it is refused: the contents changed
    And the refusal is fatal
    And the damage of "model" is named to the block
    And the critical event "seal.verification_failed" was recorded once
    And the worker is stopped

  Scenario: The bytes change between verification and use
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When "model" is verified in full
    And a bit of "model" flips in device memory
    Then "model" cannot be leased: the contents changed

  Scenario: A freed shard's record against a new one of the same name
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    And the record of "model" is kept
    When "model" is freed
    And 1 MiB of weights are sealed as "model"
    And the kept record is presented
    Then it is refused: nothing held is recorded so

  Scenario: No secret in anything printed
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When everything about the worker and "model" is printed
    Then neither the token nor the tag is in it

  Scenario: No address in anything printed
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When everything about the worker and "model" is printed
    Then no address of "model" is in it
    And no field of its JSON is called a pointer or an address
