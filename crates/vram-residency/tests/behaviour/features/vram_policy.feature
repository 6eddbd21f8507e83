Feature: VRAM only
  Nothing is believed of a device that it was not asked about.

  Scenario: Enforcement on a device that keeps to it
    Given a worker with 10 MiB of VRAM
    When the policy is enforced
    Then it succeeds
    And the worker is VRAM-only
    And 1 MiB of weights are sealed as "model"
    And the driver's witness for "model" shows no managed, host-mapped or writable memory

  Scenario: Managed memory turns up after sealing
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When the driver begins to call the memory managed
    And "model" is verified in full
    Then it is refused: the driver's witness changed
    And the refusal is fatal
    And the critical event "seal.verification_failed" was recorded once
    And the worker is stopped

  Scenario Outline: Memory that is no VRAM is never sealed
    Given a worker with 10 MiB of VRAM
    When the driver begins to call the memory <kind>
    And 1 MiB of weights are sealed as "model"
    Then it is refused: <why>
    And the refusal is fatal
    And the critical event "policy.violation" was recorded once
    And 0 bytes of VRAM are in use

    Examples:
      | kind        | why                                     |
      | managed     | the memory is managed and can migrate   |
      | host-mapped | the memory is reachable from the host   |
      | host memory | the memory is not device memory         |
      | writable    | the mapping is still writable           |

  Scenario: A GPU that shares memory with the CPU
    When a worker is started on an integrated GPU
    Then it is refused: policy: not on this device
    And the refusal is fatal
    And the refusal says "use a discrete GPU"
    And the critical event "policy.violation" was recorded once

  Scenario: A device that changes after the start
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When another device answers in its place
    And the policy is enforced
    Then it is refused: policy: not on this device
    And the refusal is fatal
    And the refusal says "it is another device than at the start"
    And the critical event "policy.violation" was recorded once
    And the worker is stopped
