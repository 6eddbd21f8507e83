//! The command line.

use std::path::PathBuf;

use vram_residency_cuda::Cuda;

/// What the command line says.
#[derive(Default)]
pub(crate) struct Options {
    /// The driver library; the loader's own search without it.
    pub(crate) library: Option<String>,
    pub(crate) ordinal: u32,
    /// Sizes of the kernels' data; by the device's kind without them.
    pub(crate) sizes: Option<Vec<u64>>,
    pub(crate) out: PathBuf,
    /// Where a model file may lie.
    pub(crate) scratch: PathBuf,
    /// What the results say of their origin.
    pub(crate) commit: String,
    pub(crate) date: String,
}

impl Options {
    /// Options with a value each, behind the section's name.
    pub(crate) fn parse(args: &[String]) -> Self {
        let mut options = Self {
            out: ".".into(),
            scratch: std::env::temp_dir(),
            ..Self::default()
        };
        for pair in args.chunks(2) {
            let [name, value] = pair else {
                panic!("{} needs a value", pair[0]);
            };
            let value = value.clone();
            match name.as_str() {
                "--library" => options.library = Some(value),
                "--ordinal" => options.ordinal = value.parse().expect("an ordinal"),
                "--sizes-mib" => {
                    let size = |mib: &str| mib.parse::<u64>().expect("sizes in MiB") << 20;
                    options.sizes = Some(value.split(',').map(size).collect());
                }
                "--out" => options.out = value.into(),
                "--scratch" => options.scratch = value.into(),
                "--commit" => options.commit = value,
                "--date" => options.date = value,
                _ => panic!("unknown option {name}"),
            }
        }
        options
    }

    /// The driver.
    pub(crate) fn cuda(&self) -> Result<Cuda, String> {
        match &self.library {
            Some(library) => Cuda::open_library(library),
            None => Cuda::open(),
        }
        .map_err(|error| error.to_string())
    }
}
