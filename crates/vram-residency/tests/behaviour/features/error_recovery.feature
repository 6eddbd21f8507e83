Feature: After an error
  A refusal leaves nothing behind, and the next request is served.

  Scenario: After a model that did not fit
    Given a worker with 10 MiB of VRAM
    When 20 MiB of weights are sealed as "too-big"
    Then it is refused: not enough VRAM
    When 2 MiB of weights are sealed as "fits"
    Then it succeeds
    And 2 MiB of VRAM are in use

  Scenario: After a failed verification
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "bad"
    When a bit of "bad" flips in device memory
    And "bad" is verified in full
    Then it is refused: the contents changed
    When 1 MiB of weights are sealed as "good"
    Then it succeeds
    And shard "good" passes a full verification
    And "good" cannot be leased: stopped

  Scenario: After a bad name
    Given a worker with 10 MiB of VRAM
    When 1 MiB of weights are offered under the name "no spaces"
    Then it is refused: bad characters
    When 1 MiB of weights are sealed as "no-spaces"
    Then it succeeds

  Scenario: After an empty model
    Given a worker with 10 MiB of VRAM
    When 0 bytes of weights are sealed as "empty"
    Then it is refused: model size
    When 1 MiB of weights are sealed as "full"
    Then it succeeds
    And shard "full" passes a full verification
