Feature: What a verification accepts over time

  Scenario: A fresh seal
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    Then shard "model" passes a full verification

  Scenario: Five seconds later
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When 5 seconds pass
    Then shard "model" passes a full verification

  Scenario: Older than the policy allows
    Given a worker with 10 MiB of VRAM
    And seals may be at most 60 seconds old
    And 1 MiB of weights sealed as "model"
    When 61 seconds pass
    And "model" is verified in full
    Then it is refused: policy: the seal is too old
    And the refusal is fatal

  Scenario: A record without a tag
    The sources answer "not sealed". A record here is never without its tag: a
    text that lacks it is none, and is refused before anything is asked about it.

    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When the record of "model" is read back without its tag
    Then it is refused: unreadable record
    And the refusal says "missing field `tag`"

  Scenario: A record that says it is not sealed
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When the record of "model" is presented as not sealed
    Then it is refused: not sealed

  Scenario: A shard that was freed
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When "model" is freed
    And "model" is verified in full
    Then it is refused: not sealed
