Feature: Rules that every input, event and key keeps to

  Scenario: Characters outside the alphabet
    Given a worker with 10 MiB of VRAM
    When 1 MiB of weights are offered under the name "shard@#$%"
    Then it is refused: bad characters
    And the refusal says "use ASCII letters, digits, '-' and '_'"

  Scenario: A path instead of a name
    Given a worker with 10 MiB of VRAM
    When 1 MiB of weights are offered under the name "../model"
    Then it is refused: path traversal
    And the refusal says "path traversal"

  Scenario: What a seal's event says
    Given a worker with 10 MiB of VRAM
    When 1 MiB of weights are sealed as "model"
    Then the event "vram.sealed" has the fields shard_id, gpu_device, device_uuid, device_kind, vram_bytes, digest, worker_id, timestamp

  Scenario: What a failure's event says
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When a bit of "model" flips in device memory
    And "model" is verified in full
    Then the critical event "seal.verification_failed" was recorded once
    And its reason is "digest_mismatch"
    And it has the sealed digest and another one measured

  Scenario: A key is derived, named by its id, and never shown
    Given a worker with 10 MiB of VRAM and the token "an-operators-token-of-40-characters-long"
    And 1 MiB of weights sealed as "model"
    When everything about the worker and "model" is printed
    Then the key is named by 16 hex digits
    And the token is not in it
    And the record of "model" is authentic under that token and under no other

  Scenario: What Unicode calls a letter is not one here
    Given a worker with 10 MiB of VRAM
    When 1 MiB of weights are offered under the name "mod[U+00E8]le"
    Then it is refused: bad characters
