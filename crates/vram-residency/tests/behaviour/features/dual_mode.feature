Feature: The same scenarios without a GPU and with one

  Scenario: Sealing and verifying in the mode that runs
    Given a worker with 10 MiB of VRAM
    When 1 MiB of weights are sealed as "model"
    And "model" is verified in full
    Then it succeeds
    And every byte of "model" was checked

  @asks-for-gpus
  Scenario: A machine without a GPU
    When tests ask for a GPU and the answer is "no driver was found"
    Then a banner says "NO CUDA GPU: real VRAM was NOT tested (no driver was found)."
    And the banner also says "Only the fake driver ran."
    And the banner also says "Not verified: the real driver's FFI,"
    And the banner also says "Run these tests on a machine"
