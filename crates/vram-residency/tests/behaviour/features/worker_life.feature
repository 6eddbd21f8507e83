Feature: The life of a worker

  Scenario: One execution
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When "model" is leased
    Then it succeeds
    And the lease was verified in full, now
    And "model" cannot be freed: busy
    When the lease ends
    And "model" is freed
    Then it succeeds
    And 0 bytes of VRAM are in use

  Scenario: Every execution verifies again
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When "model" is leased and given back 3 times
    Then the event "seal.verified" was recorded 3 times

  Scenario: The operator stops and resumes
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When the operator stops the worker: "maintenance"
    Then "model" cannot be leased: stopped
    And shard "model" passes a full verification
    When the operator resumes the worker: "done"
    Then "model" can still be leased
    And the event "manager.resumed" was recorded once

  Scenario: A failure stops everything until somebody looks
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "good"
    And 1 MiB of weights sealed as "bad"
    When a bit of "bad" flips in device memory
    And "bad" is verified in full
    Then the worker is stopped
    And "good" cannot be leased: stopped
    When the operator resumes the worker: "one card replaced"
    Then "good" can still be leased
    And "bad" cannot be leased: quarantined

  Scenario: The device is lost
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When the device is lost at the next check
    And "model" is verified in full
    Then it is refused: device lost
    And the refusal is fatal
    And the critical event "device.lost" was recorded once
    And the worker is stopped

  Scenario: Memory that cannot be given back
    Given a worker with 10 MiB of VRAM
    And 2 MiB of weights sealed as "model"
    When the driver cannot scrub what is freed next
    And "model" is freed
    Then it is refused: memory stranded
    And 2 MiB of VRAM are stranded
    And the event "vram.stranded" was recorded once
    And the budget balances

  Scenario: A key is changed while shards are held
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "old"
    When the key is rotated
    And 1 MiB of weights are sealed as "new"
    Then shard "old" passes a full verification
    And shard "new" passes a full verification
    When earlier keys are retired
    And "old" is verified in full
    Then it is refused: sealed under another key
    And shard "new" passes a full verification

  Scenario: Residency is attested for a verifier's nonce
    Given a worker with 10 MiB of VRAM
    And 1 MiB of weights sealed as "model"
    When the residency of "model" is attested for a nonce
    Then the attestation carries the nonce, a full verification and a good tag
    And no other nonce fits it
