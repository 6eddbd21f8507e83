Feature: Sealing a model
  A model that fits is measured in device memory and sealed; anything that may
  not be sealed is refused before memory is taken.

  Scenario: One MiB into ten
    Given a worker with 10 MiB of VRAM
    When 1 MiB of weights are sealed as "llama-7b"
    Then it succeeds
    And shard "llama-7b" has 1 MiB on device 0
    And the digest of "llama-7b" is that of its weights, 64 lower-case hex digits
    And the event "vram.sealed" was recorded once
    And 1 MiB of VRAM are in use

  Scenario Outline: A name that is no name
    Given a worker with 10 MiB of VRAM
    When 1 MiB of weights are offered under the name <name>
    Then it is refused: <reason>
    And nothing was recorded
    And 0 bytes of VRAM are in use

    Examples:
      | name                  | reason         |
      | "../../../etc/passwd" | path traversal |
      | "shard[NUL]null"         | NUL byte       |

  Scenario: Twenty MiB into ten
    Given a worker with 10 MiB of VRAM
    When 20 MiB of weights are sealed as "too-big"
    Then it is refused: not enough VRAM
    And the refusal may be retried
    And the refusal needed 20 MiB and found 10 MiB
    And the event "vram.allocation_failed" was recorded once
    And 0 bytes of VRAM are in use

  Scenario: Exactly ten MiB into ten
    Given a worker with 10 MiB of VRAM
    When 10 MiB of weights are sealed as "exact"
    Then it succeeds
    And no VRAM is available
    And shard "exact" passes a full verification

  Scenario: Larger than any model may be
    Given a worker with 10 MiB of VRAM
    When a source that says it has 101 GiB is offered
    Then it is refused: model size
    And nothing was recorded

  Scenario: The wrong model
    Given a worker with 10 MiB of VRAM
    When 1 MiB of weights are offered as a model with another digest
    Then it is refused: not the expected model
    And the event "vram.seal_failed" was recorded once
    And 0 bytes of VRAM are in use
