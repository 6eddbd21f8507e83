//! `--limit`: what the headers of models may claim.

use vram_residency::Policy;
use vram_residency::format::Limits;

use crate::text;

/// One limit that differs from the defaults.
#[derive(Debug, Clone)]
struct Limit {
    name: String,
    value: u64,
}

/// Limits of the parsers.
#[derive(clap::Args)]
pub(crate) struct LimitArgs {
    /// Let headers claim more or less: header_bytes=64MiB, say; once for each of
    /// file_bytes, header_bytes, gguf_header_bytes, tensors, gguf_tensors,
    /// name_bytes, gguf_name_bytes, dims, metadata_entries, metadata_bytes,
    /// string_bytes, array_elements, table_bytes, index_bytes,
    /// index_table_bytes, index_entries, index_files, json_depth
    #[arg(long = "limit", value_name = "NAME=N", value_parser = parse)]
    limits: Vec<Limit>,
}

impl LimitArgs {
    /// The defaults with what was asked for.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        for limit in &self.limits {
            // A name was looked up when it was read.
            let _ = limits.set(&limit.name, limit.value);
        }
        limits
    }

    /// Lets the policy admit files as large as the parsers do: who raises the
    /// one means the other (requirement: IV-001).
    pub(crate) fn widen(&self, policy: Policy) -> Policy {
        let file_bytes = self.limits().file_bytes;
        Policy {
            max_model_bytes: policy.max_model_bytes.max(file_bytes),
            ..policy
        }
    }
}

fn parse(text: &str) -> Result<Limit, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("'{text}' is not NAME=N"))?;
    let value = text::parse_size(value)?;
    if !Limits::default().set(name, value) {
        return Err(format!("there is no limit '{name}'"));
    }
    let name = name.to_owned();
    Ok(Limit { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: LimitArgs,
    }

    #[test]
    fn limits_have_names_that_help_lists() {
        let found = |words: &[&str]| {
            let words = [&["vram"], words].concat();
            <Alone as clap::Parser>::try_parse_from(words).map(|alone| alone.args.limits())
        };
        assert_eq!(found(&[]).unwrap(), Limits::default());
        let mut expected = Limits::default();
        expected.header_bytes = 64 << 20;
        expected.dims = 3;
        let words = ["--limit", "header_bytes=64MiB", "--limit", "dims=3"];
        assert_eq!(found(&words).unwrap(), expected);
        for bad in ["header_bytes", "none=1", "dims=many", "dims="] {
            assert!(found(&["--limit", bad]).is_err(), "{bad}");
        }
        let help = Alone::command().render_long_help().to_string();
        let words = help.split(|c: char| c != '_' && !c.is_ascii_lowercase());
        let words: Vec<_> = words.collect();
        for (name, _) in Limits::default().fields() {
            assert!(words.contains(&name), "{name} in {help}");
        }
    }
}
