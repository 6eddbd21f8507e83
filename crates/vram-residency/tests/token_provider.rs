//! A sealing key that never leaves its token: the `SealKey` seam is enough for a
//! provider that yields no key byte (requirement: KD-10, PM-10, CI-006).

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use common::{Rig, root_key, weights};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use vram_residency::error::{Error, VerifyError};
use vram_residency::key::{KeyContext, KeyError, KeyId, KeyProvider, SealKey, SealTag};
use vram_residency::sim::SimOptions;
use vram_residency::verify::check_record;
use vram_residency::{Mode, Policy, SealRequest, VramManager};

/// What may be asked of the token: a session's id, or a MAC. Nothing else.
enum Ask {
    Session(Vec<u8>, Sender<KeyId>),
    Mac(KeyId, Vec<u8>, Sender<Option<[u8; 32]>>),
}

/// The token: the only place where the key is, on the far side of a channel.
fn token(requests: &Receiver<Ask>, secret: &[u8; 32]) {
    let mac = |key: &[u8], parts: &[&[u8]]| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let mut sessions: Vec<(KeyId, [u8; 32])> = Vec::new();
    while let Ok(ask) = requests.recv() {
        match ask {
            Ask::Session(context, answer) => {
                let key = mac(secret, &[b"key", &context]);
                let id: [u8; 32] = mac(secret, &[b"id", &context]);
                let id = KeyId::from_bytes(id[..8].try_into().unwrap());
                sessions.push((id, key));
                answer.send(id).unwrap();
            }
            Ask::Mac(id, message, answer) => {
                let key = sessions.iter().find(|(known, _)| *known == id);
                answer
                    .send(key.map(|(_, key)| mac(key, &[&message])))
                    .unwrap();
            }
        }
    }
}

/// The host's end of the channel.
#[derive(Clone)]
struct Token(Arc<Mutex<Sender<Ask>>>);

impl Token {
    fn plug_in(secret: [u8; 32]) -> Self {
        let (sender, requests) = channel();
        std::thread::spawn(move || token(&requests, &secret));
        Self(Arc::new(Mutex::new(sender)))
    }

    fn ask<T>(&self, ask: impl FnOnce(Sender<T>) -> Ask) -> Result<T, KeyError> {
        let (answer, got) = channel();
        let lost = || KeyError::Provider {
            reason: "the token was removed".to_owned(),
        };
        self.0
            .lock()
            .unwrap()
            .send(ask(answer))
            .map_err(|_| lost())?;
        got.recv().map_err(|_| lost())
    }
}

impl KeyProvider for Token {
    fn seal_key(&self, context: &KeyContext<'_>) -> Result<Arc<dyn SealKey>, KeyError> {
        let parts = [
            context.salt.as_slice(),
            context.device.as_bytes(),
            context.worker.as_str().as_bytes(),
        ];
        let id = self.ask(|answer| Ask::Session(parts.concat(), answer))?;
        let token = self.clone();
        Ok(Arc::new(TokenKey { token, id }))
    }
}

/// Holds a name of the key, and no byte of it.
struct TokenKey {
    token: Token,
    id: KeyId,
}

impl SealKey for TokenKey {
    fn id(&self) -> KeyId {
        self.id
    }

    fn tag(&self, statement: &[u8]) -> Result<SealTag, KeyError> {
        let message = statement.to_vec();
        let mac = self
            .token
            .ask(|answer| Ask::Mac(self.id, message, answer))?;
        let mac = mac.ok_or_else(|| KeyError::Provider {
            reason: "the token does not know this key".to_owned(),
        })?;
        Ok(SealTag::from_bytes(mac))
    }
}

fn manager(token: Token) -> Rig {
    Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), |builder| {
        builder.key(token)
    })
}

#[test]
fn a_shard_lives_its_whole_life_on_a_tokens_key() {
    let token = Token::plug_in([0x5a; 32]);
    let rig = manager(token.clone());
    let manager: &VramManager = &rig.manager;
    let bytes = weights(9000, 4);
    let shard = manager.seal(SealRequest::bytes(&bytes)).unwrap();
    let lease = manager.lease(&shard, Mode::Full).unwrap();
    lease.finish();
    manager
        .attest_vram_residency(&shard, Some(&[1; 16]))
        .unwrap();
    // Offline, another session of the same token, and never of another one.
    assert!(check_record(shard.record(), &token).is_ok());
    let other = Token::plug_in([0xa5; 32]);
    let answer = check_record(shard.record(), &other).map(|_| ());
    assert!(matches!(
        answer,
        Err(Error::Verify(VerifyError::UnknownKey { .. }))
    ));
    let mut forged = shard.record().clone();
    forged.vram_bytes += 1;
    let answer = check_record(&forged, &token).map(|_| ());
    assert!(matches!(
        answer,
        Err(Error::Verify(VerifyError::Tag { .. }))
    ));
    // Rotation with overlap, from the token to a key in memory.
    manager.rotate_key(&root_key(8)).unwrap();
    let newer = manager.seal(SealRequest::bytes(&bytes)).unwrap();
    for held in [&shard, &newer] {
        manager.verify_sealed(held, Mode::Full).map(drop).unwrap();
    }
    assert_ne!(shard.record().key_id, newer.record().key_id);
    manager.retire_old_keys().unwrap();
    let retired = manager.verify_sealed(&shard, Mode::TagOnly).map(drop);
    assert!(matches!(
        retired,
        Err(Error::Verify(VerifyError::UnknownKey { .. }))
    ));
}
