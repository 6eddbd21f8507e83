Feature: A GPU that others use too

  Scenario: Somebody else holds the memory
    Given a worker with 64 MiB of VRAM
    And another application leaves 8 MiB of the device free
    When 16 MiB of weights are sealed as "model"
    Then it is refused: not enough VRAM
    And the refusal may be retried
    And the other application still has its memory
    When the other application ends
    And 16 MiB of weights are sealed as "model"
    Then it succeeds

  Scenario: Two loads that both look as if they fit
    Given a worker with 20 MiB of VRAM
    When 2 threads seal 12 MiB each
    Then 1 of them succeed and 1 find no room
    And the budget balances

  Scenario: Room that is kept free for others
    Given a worker with 20 MiB of VRAM, 8 MiB of it kept free
    When 14 MiB of weights are sealed as "model"
    Then it is refused: not enough VRAM
    When 12 MiB of weights are sealed as "model"
    Then it succeeds
