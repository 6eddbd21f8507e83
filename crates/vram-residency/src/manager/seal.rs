//! Sealing one shard.

use std::convert::Infallible;
use std::sync::Arc;

use tracing::{Level, debug, info_span, warn};
use vram_digest::FileDigest;

use super::failure::About;
use super::{DeviceSlot, VramManager};
use crate::audit::{Body, Text};
use crate::capacity::plan::padding;
use crate::device::DeviceError;
use crate::error::{Error, InputError, Result, VerifyError};
use crate::format::{Limits, TensorTable};
use crate::hex;
use crate::key::{KeyId, SealTag};
use crate::load::{
    Control, FormatChoice, Header, LoadError, Noted, SealRequest, Source, Watched, refuse_part,
};
use crate::policy::{AdmittedSize, ConfirmedMemory, PolicyError};
use crate::seal::{GroupId, RECORD_SCHEMA, Record, SIGNED_RECORD_SCHEMA, ShardPosition};
use crate::shard::{Filled, Filling, ModelRef, Resident, SealedShard, ShardId};
use crate::signed::Approved;
use crate::trace::{self, Began};
use crate::verify::{Rolling, fresh_key};

/// Less than this part of the budget left is worth a warning (requirement: OB-1).
const LOW_VRAM: u64 = 10;

/// A request whose every part was checked; nothing has been taken yet.
pub(super) struct Checked<'a> {
    source: Box<dyn Source + 'a>,
    size: AdmittedSize,
    tensors: TensorTable,
    /// What the table was made of.
    header: Header,
    ordinal: u32,
    identity: Identity,
    expected: Expected,
    content: bool,
    control: Control,
    correlation_id: Option<Text>,
}

/// What the caller says that the bytes are.
struct Expected {
    digest: Option<FileDigest>,
    content: Option<[u8; 32]>,
    /// A shard that holds them already will do.
    dedupe: bool,
}

impl Expected {
    fn of(request: &mut SealRequest<'_>) -> Result<Self, InputError> {
        let digest = request.expect.take().transpose()?;
        let names_more = request.named || request.position.is_some() || request.content;
        if request.dedupe && (digest.is_none() || names_more) {
            return Err(InputError::Dedupe);
        }
        Ok(Self {
            digest,
            content: request.expect_content.take().transpose()?,
            dedupe: request.dedupe,
        })
    }
}

/// What distinguishes one shard's record from another's on the same device.
pub(super) struct Identity {
    pub(super) id: ShardId,
    pub(super) model_ref: ModelRef,
    pub(super) position: Option<ShardPosition>,
    pub(super) group: Option<GroupId>,
}

impl Checked<'_> {
    pub(super) const fn ordinal(&self) -> u32 {
        self.ordinal
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.size.bytes()
    }

    pub(super) const fn tensors(&self) -> &TensorTable {
        &self.tensors
    }

    pub(super) const fn control_mut(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl VramManager {
    /// Loads a model into device memory, measures it there, and seals it
    /// (requirement: API-F12..F14, API-F16..F18, WORKER-4113, WORKER-4000). On any failure nothing is left
    /// on the device and the budget is as before.
    ///
    /// # Errors
    /// Every kind of [`Error`]; refused input changes nothing and is no event.
    pub fn seal(&self, request: SealRequest<'_>) -> Result<SealedShard> {
        self.seal_checked(self.check(request, None)?)
    }

    /// Records that what was to be sealed could not be opened, as every load that
    /// fails is recorded, and gives the error back: for who opens files before
    /// there is a request to seal them (requirement: AU-5, AU-7).
    #[must_use]
    pub fn not_opened(&self, error: LoadError) -> Error {
        let about = About::default();
        let answer: Result<Infallible> = self.recorded("seal", about, Err(error.into()));
        match answer {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Checks every part of a request before anything is taken. A source that
    /// cannot be opened or understood is a failed load, and recorded.
    pub(super) fn check<'a>(
        &self,
        request: SealRequest<'a>,
        member: Option<(GroupId, ShardPosition)>,
    ) -> Result<Checked<'a>> {
        let began = Began::at(Level::WARN);
        let correlation_id = request.correlation_id.clone();
        let correlation_id = correlation_id.or_else(|| self.request.clone());
        let span = info_span!(
            "seal",
            gpu_device = request.ordinal,
            correlation_id = correlation_id.as_ref().map(Text::as_str)
        );
        let _entered = span.enter();
        let about = About::request(correlation_id.clone());
        let checked = self.recorded("seal", about, self.check_parts(request, member));
        if let Err(error) = &checked
            && error.is_refusal()
        {
            trace::refused("seal", error, began.nanos());
        }
        checked.map(|checked| Checked {
            correlation_id,
            ..checked
        })
    }

    fn check_parts<'a>(
        &self,
        mut request: SealRequest<'a>,
        member: Option<(GroupId, ShardPosition)>,
    ) -> Result<Checked<'a>> {
        let ordinal = match request.ordinal {
            Some(ordinal) => self.slot(ordinal)?.info().ordinal,
            None => self.first_slot()?.info().ordinal,
        };
        let expected = Expected::of(&mut request)?;
        let identity = self.identity(&mut request, member)?;
        let source = request.source?;
        let size = self.inner.policy.admit_size(source.len());
        let size = size.map_err(|error| error.of_source(&source.name()))?;
        let (cancel, progress) = (request.cancel, request.progress);
        let clock = Arc::clone(&self.inner.clock);
        let control = Control::new(cancel, progress, clock, request.timeout, size.bytes());
        let mut control = control.joining(request.spent, request.staging);
        let (tensors, header) = match request.tensors {
            Some(tensors) => tensors,
            None => {
                let extension = request.extension.as_deref();
                let limits = (&request.limits, request.tables_before);
                let how = (request.format, extension);
                let whole = identity.position.is_none();
                tensors(source.as_ref(), how, limits, (whole, &mut control))?
            }
        };
        Ok(Checked {
            source,
            size,
            tensors,
            header,
            ordinal,
            identity,
            expected,
            content: request.content,
            control,
            correlation_id: request.correlation_id,
        })
    }

    /// What the caller calls it, and what it is called otherwise.
    fn identity(
        &self,
        request: &mut SealRequest<'_>,
        member: Option<(GroupId, ShardPosition)>,
    ) -> Result<Identity> {
        let id = match request.id.take() {
            Some(id) => id?,
            None => ShardId::generate(self.inner.random.as_ref())?,
        };
        let model_ref = request.model_ref.take().transpose()?.unwrap_or_default();
        let position = request.position.take().transpose()?;
        Ok(Identity {
            id,
            model_ref,
            position: member.map(|(_, position)| position).or(position),
            group: member.map(|(group, _)| group),
        })
    }

    pub(super) fn seal_checked(&self, mut request: Checked<'_>) -> Result<SealedShard> {
        request.control.start();
        let span = info_span!(
            "seal",
            shard_id = %request.identity.id,
            gpu_device = request.ordinal,
            bytes = request.size.bytes(),
            correlation_id = request.correlation_id.as_ref().map(Text::as_str)
        );
        trace::operation(&span, || self.seal_admitted(request))
    }

    fn seal_admitted(&self, request: Checked<'_>) -> Result<SealedShard> {
        self.inner.counters.seal_attempts();
        if let Some(shard) = self.duplicate_of(&request) {
            let body = Body::ShardShared {
                shard_id: shard.id().clone(),
                gpu_device: shard.record().gpu_device,
            };
            self.emit(request.correlation_id.as_ref(), body)?;
            return Ok(shard);
        }
        let slot = self.slot(request.ordinal)?;
        let claim = self.inner.registry.claim(request.identity.id.clone())?;
        let correlation_id = request.correlation_id.clone();
        let shard_id = request.identity.id.clone();
        let filling = self.take(slot, &request, claim)?;
        let sealed = self.fill_and_seal(slot, filling, request);
        match sealed {
            Ok(shard) => {
                self.inner.counters.sealed();
                Ok(shard)
            }
            Err(error) => {
                let gpu_device = slot.info().ordinal;
                let reason = Text::new(&error.to_string());
                let body = Body::VramSealFailed {
                    shard_id,
                    gpu_device,
                    reason,
                };
                self.tell(correlation_id.as_ref(), body);
                Err(error)
            }
        }
    }

    /// Room, then memory. Refusals are recorded (requirement: AU-4, AU-5).
    fn take(
        &self,
        slot: &DeviceSlot,
        request: &Checked<'_>,
        claim: Arc<crate::shard::Claim>,
    ) -> Result<Filling> {
        let start = padding(request.tensors.data_start());
        let len = request.size.bytes();
        self.take_room(slot, len, start, claim, request.correlation_id.as_ref())
    }

    /// Memory for `len` bytes at byte `start` of a fresh allocation.
    pub(super) fn take_room(
        &self,
        slot: &DeviceSlot,
        len: u64,
        start: u64,
        claim: Arc<crate::shard::Claim>,
        correlation_id: Option<&Text>,
    ) -> Result<Filling> {
        let shard_id = claim.id().clone();
        let wanted = self.inner.policy.admit_size(len)?.padded(start);
        let recorder = Arc::clone(&self.inner.recorder);
        let correlation_id = correlation_id.or(self.request.as_ref());
        let about = (claim, correlation_id.cloned());
        let attempt = self.inner.counters.attempt();
        let taken = slot
            .ledger
            .reserve(slot.admitted, wanted)
            .and_then(|reservation| Ok(Filling::start(reservation, recorder, about, start, len)?));
        drop(attempt);
        let filling = match self.lost_is_recorded(taken) {
            Ok(filling) => filling,
            Err(error) => {
                self.room_refused(slot, wanted.bytes(), correlation_id, &error);
                return Err(error);
            }
        };
        let capacity = slot.ledger.capacity();
        let body = Body::VramAllocated {
            shard_id,
            requested_bytes: wanted.bytes(),
            allocated_bytes: filling.granted(),
            available_bytes: capacity.available,
            used_bytes: capacity.used,
            gpu_device: capacity.ordinal,
        };
        self.emit(correlation_id, body)?;
        if capacity.available < capacity.total / LOW_VRAM {
            let (available, total) = (capacity.available, capacity.total);
            let gpu_device = capacity.ordinal;
            warn!(gpu_device, available, total, "little VRAM is left");
        }
        Ok(filling)
    }

    fn fill_and_seal(
        &self,
        slot: &DeviceSlot,
        filling: Filling,
        request: Checked<'_>,
    ) -> Result<SealedShard> {
        self.load_starts(&request)?;
        let key = fresh_key(self.inner.random.as_ref())?;
        let source = request.source.as_ref();
        let began = Began::at(Level::DEBUG);
        let filled = filling.fill(source, key, &request.control, request.content);
        let filled = filled.and_then(|filled| Ok(filled.agreed(request.expected.digest)?));
        let filled = self.lost_is_recorded(filled)?;
        let (digest, nanos) = (filled.digest(), began.nanos());
        debug!(%digest, nanos, "the digest was measured in VRAM");
        let expected = filled.expect(request.expected.digest, request.expected.content);
        let filled = self.mismatch_is_recorded(&request, expected)?;
        // The names, types and places are those of the bytes that are sealed.
        if !request.header.is_of(filled.tree.level0()) {
            let (name, what) = (source.name(), "header");
            return Err(LoadError::Changed { name, what }.into());
        }
        // What ends late has failed, whoever made it late.
        request.control.check(&source.name())?;
        self.load_ends(&request, &filled)?;
        let correlation_id = request.correlation_id.as_ref();
        self.seal_filled(
            slot,
            filled,
            request.identity,
            request.tensors,
            correlation_id,
        )
    }

    /// Records what is about to be loaded, and what is expected of it.
    fn load_starts(&self, request: &Checked<'_>) -> Result<()> {
        let body = Body::ModelLoadStarted {
            shard_id: request.identity.id.clone(),
            gpu_device: request.ordinal,
            source: Text::new(&request.source.name()),
            bytes: request.size.bytes(),
            expected_digest: request.expected.digest.map(|digest| digest.to_string()),
            expected_content: request.expected.content.map(|hash| hex::encode(&hash)),
        };
        Ok(self.emit(request.correlation_id.as_ref(), body)?)
    }

    /// Records that another file arrived than was expected, with both digests.
    fn mismatch_is_recorded(
        &self,
        request: &Checked<'_>,
        answer: Result<Filled, VerifyError>,
    ) -> Result<Filled> {
        if let Err(VerifyError::Unexpected {
            algorithm,
            expected,
            actual,
        }) = &answer
        {
            let body = Body::ModelHashMismatch {
                shard_id: request.identity.id.clone(),
                gpu_device: request.ordinal,
                algorithm: Text::new(algorithm),
                expected_digest: expected.clone(),
                actual_digest: actual.clone(),
            };
            self.tell(request.correlation_id.as_ref(), body);
        }
        Ok(answer?)
    }

    /// Records that all of it arrived, and that it is what was expected.
    fn load_ends(&self, request: &Checked<'_>, filled: &Filled) -> Result<()> {
        let correlation_id = request.correlation_id.as_ref();
        if request.expected.digest.is_some() || request.expected.content.is_some() {
            let body = Body::ModelHashVerified {
                shard_id: request.identity.id.clone(),
                digest: filled.tree.digest().to_string(),
                content: filled.content.map(|hash| hex::encode(&hash)),
            };
            self.emit(correlation_id, body)?;
        }
        let body = Body::ModelLoadCompleted {
            shard_id: request.identity.id.clone(),
            gpu_device: request.ordinal,
            bytes: filled.tree.len(),
            tensors: request.tensors.tensors().len() as u64,
        };
        Ok(self.emit(correlation_id, body)?)
    }

    /// Read-only, witnessed, stated and tagged: the last steps of sealing, for
    /// loads and for arrivals from another device.
    pub(super) fn seal_filled(
        &self,
        slot: &DeviceSlot,
        mut filled: Filled,
        identity: Identity,
        tensors: TensorTable,
        correlation_id: Option<&Text>,
    ) -> Result<SealedShard> {
        let about = || About::seal(&identity.id, correlation_id);
        let refused = |error| self.policy_violation(slot, about(), error, "seal_refused");
        let approved = self.approved(&filled).map_err(refused)?;
        let confirmed = match self.lost_is_recorded(filled.confirm(&self.inner.policy)) {
            Err(Error::Policy(error)) => return Err(refused(error)),
            other => other?,
        };
        let began = Began::at(Level::DEBUG);
        let record = self.sealed_record(slot, &filled, identity, (confirmed, approved))?;
        let (key_id, sequence, nanos) = (record.key_id, record.sequence, began.nanos());
        debug!(%key_id, sequence, nanos, "the statement was tagged");
        let body = Body::VramSealed {
            shard_id: record.shard_id.clone(),
            model_ref: record.model_ref.clone(),
            gpu_device: record.gpu_device,
            device_uuid: record.device_uuid,
            device_kind: record.device_kind,
            vram_bytes: record.vram_bytes,
            digest: record.digest.to_string(),
            sequence: record.sequence,
            signer: record.signer.clone(),
        };
        let now = self.inner.clock.monotonic();
        let rolling = filled
            .reference
            .take()
            .map(|reference| Rolling::new(reference, None, now, self.inner.random.as_ref()));
        let rolling = rolling.transpose()?;
        self.emit(correlation_id, body)?;
        let resident = Resident::new(filled, record, tensors, rolling, now);
        Ok(SealedShard::new(resident))
    }

    /// Whether the policy lets these bytes be sealed, as the device measured them
    /// (requirement: PM-15).
    fn approved(&self, filled: &Filled) -> Result<Approved, PolicyError> {
        let (digest, len) = (filled.tree.digest(), filled.tree.len());
        self.inner.policy.models.admit(&digest, len)
    }

    /// The sealed record of what was measured.
    fn sealed_record(
        &self,
        slot: &DeviceSlot,
        filled: &Filled,
        identity: Identity,
        (confirmed, approved): (ConfirmedMemory, Approved),
    ) -> Result<Record> {
        let signer = approved.into_signer();
        let schema = match signer {
            Some(_) => SIGNED_RECORD_SCHEMA,
            None => RECORD_SCHEMA,
        };
        let info = slot.info();
        let key = slot
            .keys
            .current()
            .ok_or(Error::Internal("an empty key ring"))?;
        let record = Record {
            schema: schema.to_owned(),
            shard_id: identity.id,
            model_ref: identity.model_ref,
            sealed: true,
            vram_bytes: filled.tree.len(),
            digest: filled.tree.digest(),
            content_sha256: filled.content,
            device_kind: info.kind,
            gpu_device: info.ordinal,
            device_uuid: info.uuid,
            driver: info.driver.clone(),
            position: identity.position,
            group: identity.group,
            sealed_at: self.inner.clock.now(),
            sequence: self.next_sequence(),
            instance: self.inner.instance,
            worker_id: self.inner.worker_id.clone(),
            witness: confirmed.witness(),
            key_id: KeyId::from_bytes([0; 8]),
            key_salt: self.inner.salt,
            tag: SealTag::from_bytes([0; 32]),
            signer,
        };
        Ok(crate::seal::seal(record, key.as_ref())?)
    }

    /// The shard that already holds the expected bytes as the same tensors, when
    /// the caller asked for that (requirement: API-F18).
    fn duplicate_of(&self, request: &Checked<'_>) -> Option<SealedShard> {
        let expected = &request.expected;
        let expect = expected.digest.filter(|_| expected.dedupe)?;
        let fits = |resident: &Arc<Resident>| {
            let record = resident.record();
            record.digest == expect
                && record.vram_bytes == request.size.bytes()
                && record.group.is_none()
                && record.gpu_device == request.ordinal
                && *resident.tensors() == request.tensors
                && !resident.is_quarantined()
                && resident.is_held()
        };
        self.inner
            .registry
            .all()
            .into_iter()
            .filter(fits)
            .find_map(SealedShard::share)
    }

    /// Records the loss of a device that an error tells of.
    pub(super) fn lost_is_recorded<T>(&self, answer: Result<T>) -> Result<T> {
        let cause = match &answer {
            Err(Error::Device(error)) => Some(error),
            Err(Error::Free(error)) => Some(&error.source),
            _ => None,
        };
        if cause.is_some_and(DeviceError::is_loss) {
            self.record_losses();
        }
        answer
    }
}

/// The tensor table of a source and what it was made of, read in the load's own
/// time (requirement: CO-6), within limits to which the tables of other files
/// count. What is to be a `whole` model is no part of one.
fn tensors(
    source: &dyn Source,
    (choice, extension): (FormatChoice, Option<&str>),
    (limits, before): (&Limits, u64),
    (whole, control): (bool, &mut Control),
) -> Result<(TensorTable, Header), LoadError> {
    choice.refuse_index(&source.name())?;
    control.start();
    let watched = Watched(source, control);
    let noted = Noted::new(&watched);
    let found = choice.found_beside(&noted, extension, limits, before);
    let header = noted.into_header();
    // What ended it is told before what came of that.
    control.check(&source.name())?;
    control.pause();
    let (format, tensors) = found.map_err(|error| LoadError::Format {
        name: source.name(),
        source: error,
    })?;
    if whole {
        refuse_part(&source.name(), (format, &tensors), limits)?;
    }
    Ok((tensors, header))
}
