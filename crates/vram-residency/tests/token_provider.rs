//! A sealing key that never leaves its token: the `SealKey` seam is enough for a
//! provider that yields no key byte (requirement: KD-10, PM-10, CI-006).

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use common::{Rig, root_key, weights};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use vram_residency::audit::Body;
use vram_residency::clock::Timestamp;
use vram_residency::error::{Error, VerifyError};
use vram_residency::key::{KeyContext, KeyError, KeyId, KeyProvider, SealKey, SealTag, SigningKey};
use vram_residency::receipt::{Nonce, ReceiptError, Revocations, Trust};
use vram_residency::sim::SimOptions;
use vram_residency::verify::check_record;
use vram_residency::{Mode, Policy, SealRequest, VramManager};

/// What may be asked of the token: its own id, a session's id, or a MAC. Nothing else.
enum Ask {
    Name(Sender<KeyId>),
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
    let name = |mac: [u8; 32]| KeyId::from_bytes(mac[..8].try_into().unwrap());
    let mut sessions: Vec<(KeyId, [u8; 32])> = Vec::new();
    while let Ok(ask) = requests.recv() {
        match ask {
            Ask::Name(answer) => answer.send(name(mac(secret, &[b"name"]))).unwrap(),
            Ask::Session(context, answer) => {
                let key = mac(secret, &[b"key", &context]);
                let id = name(mac(secret, &[b"id", &context]));
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

    fn id(&self) -> Result<KeyId, KeyError> {
        self.ask(Ask::Name)
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

/// Simulators are believed, and what this list does not revoke.
fn believing(revoked: Option<&Revocations>) -> Trust<'_> {
    Trust {
        simulated: true,
        revoked,
        ..Trust::default()
    }
}

/// By the token's own name, whichever of its sessions sealed.
// requirement: KD-10
#[test]
fn what_a_lost_token_sealed_is_believed_no_longer() {
    let (lost, kept) = (Token::plug_in([0x5a; 32]), Token::plug_in([0xa5; 32]));
    let operator = SigningKey::new(&root_key(9)).unwrap();
    let at = Timestamp::from_nanos(1);
    let list = Revocations::issue(&operator, at, [lost.id().unwrap()].into()).unwrap();
    for (token, key_id) in [(&lost, Some(lost.id().unwrap())), (&kept, None)] {
        let refused = key_id.map_or(Ok(()), |key_id| Err(ReceiptError::Revoked { key_id }));
        for _ in 0..2 {
            let rig = manager(token.clone());
            let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
            assert_eq!(list.check_sealed(token, shard.record()), refused);
            let attested = rig.manager.attest_vram_residency(&shard, None).unwrap();
            let answer = attested.check(token, &believing(Some(&list)), None);
            match (answer, &refused) {
                (Ok(_), Ok(())) => {}
                (Err(Error::Receipt(found)), Err(expected)) => assert_eq!(found, *expected),
                (answer, _) => panic!("{:?}", answer.map(drop)),
            }
        }
    }
}

/// Only the token can tell its name, and so whether the list revokes it.
// requirement: KD-10
#[test]
fn what_a_removed_token_sealed_is_not_taken_for_unrevoked() {
    let rig = manager(Token::plug_in([0x5a; 32]));
    let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
    let operator = SigningKey::new(&root_key(9)).unwrap();
    let other = KeyId::from_bytes([7; 8]);
    let list = Revocations::issue(&operator, Timestamp::from_nanos(1), [other].into()).unwrap();
    let removed = Token(Arc::new(Mutex::new(channel().0)));
    let reason = "the token was removed".to_owned();
    let expected = ReceiptError::Key(KeyError::Provider { reason });
    let answer = list.check_sealed(&removed, shard.record());
    assert_eq!(answer, Err(expected));
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
    let attested = manager.attest_vram_residency(&shard, Some(&[1; 16]));
    let (attested, nonce) = (attested.unwrap(), Nonce::new(&[1; 16]).unwrap());
    let answered = attested.check(&token, &believing(None), Some(&nonce));
    assert_eq!(answered.unwrap().facts().record, *shard.record());
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

/// A token that starts to make other tags.
struct Fickle(Arc<AtomicBool>);

impl KeyProvider for Fickle {
    fn seal_key(&self, _: &KeyContext<'_>) -> Result<Arc<dyn SealKey>, KeyError> {
        Ok(Arc::new(Self(Arc::clone(&self.0))))
    }

    fn id(&self) -> Result<KeyId, KeyError> {
        Ok(KeyId::from_bytes([5; 8]))
    }
}

impl SealKey for Fickle {
    fn id(&self) -> KeyId {
        KeyId::from_bytes([5; 8])
    }

    fn tag(&self, statement: &[u8]) -> Result<SealTag, KeyError> {
        let mut tag = [u8::from(self.0.load(Ordering::SeqCst)); 32];
        tag[1..].copy_from_slice(&Sha256::digest(statement)[1..]);
        Ok(SealTag::from_bytes(tag))
    }
}

/// The driver was not asked, so that nothing it said before stands in the event.
// requirement: AU-3
#[test]
fn a_tag_that_is_wrong_later_is_told_without_the_drivers_word() {
    for scrubs in [false, true] {
        let changed = Arc::new(AtomicBool::new(false));
        let fickle = Fickle(Arc::clone(&changed));
        let rig = Rig::build(&[SimOptions::new(1 << 20)], Policy::default(), |builder| {
            builder.key(fickle)
        });
        let shard = rig.manager.seal(SealRequest::bytes(b"weights")).unwrap();
        let check = || match scrubs {
            true => rig.manager.scrub_step(1 << 20).map(drop),
            false => rig.manager.verify_sealed(&shard, Mode::TagOnly).map(drop),
        };
        check().unwrap();
        changed.store(true, Ordering::SeqCst);
        let error = check().unwrap_err();
        let tag = matches!(error, Error::Verify(VerifyError::Tag { .. }));
        assert!(tag && shard.is_quarantined(), "{error}");
        let events = rig.sink.events().into_iter();
        let mut failed = events.filter_map(|event| match event.body {
            Body::SealVerificationFailed {
                reason,
                sealed_witness,
                witness,
                ..
            } => Some((reason.to_string(), sealed_witness, witness)),
            _ => None,
        });
        assert_eq!(failed.next(), Some(("tag_mismatch".to_owned(), None, None)));
    }
}
