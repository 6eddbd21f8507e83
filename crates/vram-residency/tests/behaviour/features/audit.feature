Feature: The audit log

  Scenario: A life is recorded and proves itself
    Given a worker with 10 MiB of VRAM and an audit log
    And 1 MiB of weights sealed as "model"
    When "model" is verified in full
    And "model" is freed
    And the worker ends
    Then the audit log verifies
    And it holds vram.sealed, seal.verified and vram.deallocated in this order

  Scenario: A line is changed
    Given a worker with 10 MiB of VRAM and an audit log
    And 1 MiB of weights sealed as "model"
    When the worker ends
    And a shard's name is changed in the audit log
    Then the audit log does not verify: a line was edited

  Scenario: A line is dropped
    Given a worker with 10 MiB of VRAM and an audit log
    And 1 MiB of weights sealed as "model"
    When the worker ends
    And the line of the seal is dropped from the audit log
    Then the audit log does not verify: a line was dropped

  Scenario: A failed verification is durable before anybody hears of it
    Given a worker with 10 MiB of VRAM and an audit log
    And 1 MiB of weights sealed as "model"
    When a bit of "model" flips in device memory
    And "model" is verified in full
    Then the failure is on disk already

  Scenario: No evidence, no seal
    Given a worker with 10 MiB of VRAM whose events must be kept
    When events can no longer be written
    And 1 MiB of weights are sealed as "model"
    Then it is refused: audit
    And 0 bytes of VRAM are in use

  Scenario: Lost evidence is counted where it may be lost
    Given a worker with 10 MiB of VRAM
    When events can no longer be written
    And 1 MiB of weights are sealed as "model"
    Then it succeeds
    And lost events were counted
