//! What the pretended machine is like: `reset KEY=VALUE ...`.

/// When queued work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// At random moments in random order between streams (seeded).
    Random,
    /// As soon as it is queued.
    Eager,
    /// Only when somebody waits for it.
    Lazy,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) gpus: usize,
    /// Bytes of memory of each device.
    pub(crate) vram: u64,
    /// Bytes that a context takes for itself.
    pub(crate) context_bytes: u64,
    pub(crate) capability: (u32, u32),
    pub(crate) integrated: bool,
    pub(crate) ecc: bool,
    pub(crate) compute_mode: i32,
    /// As `cuDriverGetVersion` says it, for example 12080.
    pub(crate) driver_version: i32,
    /// Newest PTX version that is accepted.
    pub(crate) ptx: (u32, u32),
    pub(crate) vmm: bool,
    pub(crate) fd: bool,
    pub(crate) peer: bool,
    /// The devices are slices of one divided card.
    pub(crate) mig: bool,
    /// Instead of `CUDA_VISIBLE_DEVICES`.
    pub(crate) visible: Option<String>,
    /// Does `cuMemSetAccess` accept read-only?
    pub(crate) read_only: bool,
    /// Are read-only mappings honoured by kernels and copies?
    pub(crate) protection: bool,
    pub(crate) granularity: u64,
    pub(crate) schedule: Schedule,
    pub(crate) seed: u64,
    /// Fill of fresh memory; `None` leaves it zero.
    pub(crate) poison: Option<u8>,
    /// Freed device memory is handed out again as it was, to who asks for as much.
    pub(crate) reuse: bool,
    /// Warp instructions before a launch counts as hung.
    pub(crate) instruction_limit: u64,
    /// Bytes of device memory that each kernel takes at its first launch, as
    /// drivers do that load code late.
    pub(crate) code_bytes: u64,
    /// Uncorrected memory errors and replaced rows that NVML counts.
    pub(crate) uncorrected: u64,
    pub(crate) remapped: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            gpus: 1,
            vram: 16 << 30,
            context_bytes: 0,
            capability: (9, 0),
            integrated: false,
            ecc: true,
            compute_mode: 0,
            driver_version: 12080,
            ptx: (8, 7),
            vmm: true,
            fd: true,
            peer: true,
            mig: false,
            visible: None,
            read_only: true,
            protection: true,
            granularity: 2 << 20,
            schedule: Schedule::Random,
            seed: 1,
            poison: Some(0xa5),
            reuse: false,
            instruction_limit: crate::ptx::DEFAULT_INSTRUCTION_LIMIT,
            code_bytes: 0,
            uncorrected: 0,
            remapped: 0,
        }
    }
}

/// Most devices that can be pretended.
const MAX_GPUS: usize = 16;

impl Options {
    /// Reads the words after `reset`. `None`: a word is not understood.
    pub(crate) fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Option<Options> {
        let mut options = Options::default();
        for word in words {
            match word.split_once('=') {
                Some((key, value)) => options.set(key, value)?,
                None => options.flag(word)?,
            }
        }
        Some(options)
    }

    fn flag(&mut self, word: &str) -> Option<()> {
        match word {
            "integrated" => self.integrated = true,
            "noecc" => self.ecc = false,
            "novmm" => self.vmm = false,
            "nofd" => self.fd = false,
            "mig" => self.mig = true,
            "nopeer" => self.peer = false,
            "noreadonly" => self.read_only = false,
            "noprotection" => self.protection = false,
            "nopoison" => self.poison = None,
            "reuse" => self.reuse = true,
            _ => return None,
        }
        Some(())
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "gpus" => self.gpus = value.parse().ok().filter(|n| *n <= MAX_GPUS)?,
            "vram" => self.vram = bytes(value)?,
            "visible" => self.visible = Some(value.to_owned()),
            "context" => self.context_bytes = bytes(value)?,
            "cc" => self.capability = pair(value)?,
            "integrated" => self.integrated = value.parse::<u8>().ok()? != 0,
            "compute_mode" => self.compute_mode = value.parse().ok()?,
            "driver_version" => self.driver_version = value.parse().ok()?,
            "ptx" => self.ptx = pair(value)?,
            "granularity" => {
                self.granularity = bytes(value).filter(|g| g.is_power_of_two() && *g >= 4096)?;
            }
            "schedule" => {
                self.schedule = match value {
                    "random" => Schedule::Random,
                    "eager" => Schedule::Eager,
                    "lazy" => Schedule::Lazy,
                    _ => return None,
                };
            }
            "seed" => self.seed = value.parse().ok()?,
            "poison" => self.poison = Some(value.parse().ok()?),
            "code" => self.code_bytes = bytes(value)?,
            "uncorrected" => self.uncorrected = value.parse().ok()?,
            "remapped" => self.remapped = value.parse().ok()?,
            "instructions" => self.instruction_limit = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

/// A number of bytes, with an optional K, M or G (powers of 1024).
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' => (text.strip_suffix('K')?, 1 << 10),
        b'M' => (text.strip_suffix('M')?, 1 << 20),
        b'G' => (text.strip_suffix('G')?, 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_set_what_they_name() {
        let words = "gpus=2 vram=8G cc=5.2 novmm ptx=6.0 schedule=lazy poison=7 integrated=1";
        let options = Options::parse(words.split(' ')).unwrap();
        assert_eq!(
            (options.gpus, options.vram, options.capability),
            (2, 8 << 30, (5, 2))
        );
        assert!(!options.vmm && options.integrated && options.poison == Some(7));
        assert_eq!((options.ptx, options.schedule), ((6, 0), Schedule::Lazy));
        for bad in [
            "gpus=99",
            "gpu=1",
            "vram=x",
            "cc=9",
            "granularity=3",
            "magic",
            "schedule=now",
        ] {
            assert_eq!(Options::parse([bad].into_iter()), None, "{bad}");
        }
    }
}
