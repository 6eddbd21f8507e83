Feature: Keys, records and tags at their limits

  Scenario Outline: Tokens that are no keys
    When a key is made from <token>
    Then no key is made: <reason>

    Examples:
      | token                      | reason       |
      | a token of no bytes        | token length |
      | a token of 16 bytes        | token length |
      | a token of 2048 bytes      | token length |
      | 32 bytes of 0x00           | entropy      |
      | 32 bytes of 0xFF           | entropy      |

  Scenario: The longest token
    When a key is made from a token of 1024 bytes
    Then a key is made

  Scenario Outline: Records that cannot be read
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "model"
    When the record of "model" is read back with <field> set to <value>
    Then it is refused: unreadable record
    And the refusal says "<why>"

    Examples:
      | field    | value          | why                         |
      | shard_id | nothing        | shard id is empty           |
      | shard_id | Greek letters  | shard id has a character    |
      | shard_id | 257 letters    | shard id has 257 bytes      |
      | digest   | 32 hex digits  | digest has 32 characters    |
      | tag      | nothing        | a seal tag is 64            |
      | tag      | 128 hex digits | a seal tag is 64            |

  Scenario Outline: Records that can be read and are not what was sealed
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "model"
    When the record of "model" is presented with <change>
    Then it is refused: the record does not match its tag

    Examples:
      | change                  |
      | no bytes                |
      | another name            |
      | another digest          |
      | one bit of the tag flipped |

  Scenario: Every bit of the first eight bytes of a tag counts
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "model"
    When each of the first 64 bits of the tag of "model" is flipped in turn
    Then none of them is accepted

  Scenario: A statement about more bytes than any card has
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "model"
    When a statement like that of "model" about 128 GiB is tagged
    Then the tag checks out for 128 GiB and for no other length

  Scenario: The longest name
    Given a worker with 10 MiB of VRAM
    When 1 KiB of weights are sealed under a name of 256 letters
    Then it succeeds
    When 1 KiB of weights are sealed under a name of 257 letters
    Then it is refused: name too long

  Scenario: The wrong key
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "model"
    When the record of "model" is checked under another token
    Then it is refused: sealed under another key

  Scenario: Tags are deterministic
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "model"
    When the tag of the record of "model" is computed 2 times
    Then every tag is the one in the record

  Scenario: Tags differ from shard to shard
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "a"
    And 1 KiB of weights sealed as "b"
    Then the tags of "a" and "b" differ

  Scenario: Tags differ from key to key
    Given a worker with 10 MiB of VRAM
    And 1 KiB of weights sealed as "model"
    When the tag of the record of "model" is computed under another token
    Then it is not the one in the record
