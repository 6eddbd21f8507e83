@two-devices
Feature: Models of several shards

  Scenario: All of them
    Given a worker with 10 MiB of VRAM on each of 2 devices
    When 4 parts of 1 MiB each are sealed as one model over the devices
    Then it succeeds
    And the group has 4 members in order
    And the group is verified in parallel and is ready once it passed
    And 4 MiB of VRAM are in use

  Scenario: Or none
    Given a worker with 10 MiB of VRAM on each of 2 devices
    When 3 parts of 6 MiB each are sealed as one model over the devices
    Then it is refused: not enough VRAM
    And 0 bytes of VRAM are in use

  Scenario: One bad member condemns the model
    Given a worker with 10 MiB of VRAM on each of 2 devices
    And 4 parts of 1 MiB each sealed as one model over the devices
    When a bit of part 0 flips in device memory
    And the group is verified
    Then it is refused: the contents changed
    And 4 members are quarantined

  Scenario: Unless the policy isolates it
    Given a worker with 10 MiB of VRAM on each of 2 devices
    And failures are isolated
    And 4 parts of 1 MiB each sealed as one model over the devices
    When a bit of part 0 flips in device memory
    And the group is verified
    Then it is refused: the contents changed
    And 1 members are quarantined
