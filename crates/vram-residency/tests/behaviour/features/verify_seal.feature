Feature: Verifying a seal
  A verification reads the bytes where they lie; a record that was edited is
  refused before a byte is read.

  Background:
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"

  Scenario: Untouched
    When "model" is verified in full
    Then it succeeds
    And every byte of "model" was checked
    And the event "seal.verified" was recorded once

  Scenario: A record with another digest
    When the record of "model" is presented with its digest zeroed
    Then it is refused: the record does not match its tag
    And the critical event "seal.verification_failed" was recorded once

  Scenario: A record with another tag
    When the record of "model" is presented with its tag zeroed
    Then it is refused: the record does not match its tag
    And the critical event "seal.verification_failed" was recorded once
