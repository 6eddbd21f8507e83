Feature: Receipts
  What the worker sealed, signed so that anybody with its public key can check.

  Background:
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    And a receipt for "model"

  Scenario: With the worker's public key
    When the receipt is checked with the worker's public key
    Then the receipt is believed
    And it describes the weights of "model" and no others

  Scenario: With a stranger's public key
    When the receipt is checked with a stranger's public key
    Then the receipt is not believed: untrusted

  Scenario: Changed after signing
    When one digit of the receipt's signature is changed
    And the receipt is checked with the worker's public key
    Then the receipt is not believed: wrong signature

  Scenario: Another digest under the same signature
    When the receipt's digest is replaced
    And the receipt is checked with the worker's public key
    Then the receipt is not believed: wrong signature

  Scenario: A simulated device where a GPU is asked for
    When the receipt is checked as one of a GPU
    Then the receipt says what the device is
