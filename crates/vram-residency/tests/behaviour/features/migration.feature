@two-devices
Feature: Moving a shard to another device

  Background:
    Given a worker with 10 MiB of VRAM on each of 2 devices

  Scenario: It arrives as it was
    Given 1 MiB of weights sealed as "model"
    When "model" is moved to device 1
    Then it succeeds
    And shard "model" has 1 MiB on device 1
    And shard "model" passes a full verification
    And device 0 holds nothing
    And the event "shard.migrated" was recorded once

  Scenario: It does not fit there
    Given 1 MiB of weights sealed as "model"
    And 10 MiB of weights sealed as "full" on device 1
    When "model" is moved to device 1
    Then it is refused: not enough VRAM
    And shard "model" passes a full verification
    And shard "model" has 1 MiB on device 0

  Scenario: The copy goes wrong
    Given 1 MiB of weights sealed as "model"
    When the next copy between devices is damaged
    And "model" is moved to device 1
    Then it is refused: not the expected model
    And device 1 holds nothing
    And shard "model" passes a full verification
    And the event "shard.migration_failed" was recorded once

  Scenario: Not while it is in use
    Given 1 MiB of weights sealed as "model"
    When "model" is leased
    And "model" is moved to device 1
    Then it is refused: busy
