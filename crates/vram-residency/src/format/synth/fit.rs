//! Chooses dimensions so that a model fills a file of a given size exactly.
//!
//! The widest model that fits with the usual depth is taken, then as many
//! layers as fit, then rows of vocabulary, and the rotary table takes the rest.

use super::header::Container;
use super::tensors::{Dims, Tensor, list};

/// Everything there is to write.
pub(super) struct Plan {
    pub(super) dims: Dims,
    pub(super) header: Vec<u8>,
    pub(super) tensors: Vec<Tensor>,
}

/// Real models are multiples of this wide.
const WIDTH_STEP: u64 = 128;

/// Widths for models smaller than that.
const SMALL_WIDTHS: [u64; 2] = [64, 32];

/// Widest model considered; with its depth it passes 800 GB.
const MAX_WIDTH: u64 = 16_384;

/// Deepest model: its tensors stay below the 10,000 of VA-10.
const MAX_LAYERS: u64 = 1_100;

/// Rows of vocabulary for each column: Llama 2 has 32,000 for 4,096.
const VOCAB_PER_WIDTH: u64 = 8;

/// Most rows tried when the vocabulary takes up what layers left.
const MAX_VOCAB: u64 = 1 << 22;

/// The plan for `size` bytes, rounded down to the container's unit; `None`
/// where not even the smallest model fits.
pub(super) fn fit(container: Container, size: u64) -> Option<Plan> {
    let unit = container.unit();
    let size = size.checked_div(unit)?.checked_mul(unit)?;
    let fits = |dims: Dims| needed(container, dims, size).is_some_and(|n| n <= size);

    let start = widest(container, fits)?;
    let layers = last_that(start.layers, MAX_LAYERS, |layers| {
        fits(Dims { layers, ..start })
    });
    let deep = Dims { layers, ..start };
    let vocab = last_that(deep.vocab, MAX_VOCAB, |vocab| fits(Dims { vocab, ..deep }));
    let full = Dims { vocab, ..deep };

    let left = size.checked_sub(needed(container, full, size)?)?;
    let more = left.checked_div(unit)?.checked_mul(unit.div_ceil(4))?;
    let rotary = full.rotary.checked_add(more)?;
    plan(container, Dims { rotary, ..full }, size)
}

/// The widest model of usual depth that fits.
fn widest(container: Container, fits: impl Fn(Dims) -> bool) -> Option<Dims> {
    let of_step = |step: u64| smallest(container, step.saturating_mul(WIDTH_STEP));
    if fits(of_step(1)) {
        let steps = MAX_WIDTH.div_ceil(WIDTH_STEP);
        return Some(of_step(last_that(1, steps, |step| fits(of_step(step)))));
    }
    let mut small = SMALL_WIDTHS
        .iter()
        .map(|hidden| smallest(container, *hidden));
    small.find(|dims| fits(*dims))
}

/// The model of that width with the usual depth, one layer for 128 columns.
fn smallest(container: Container, hidden: u64) -> Dims {
    Dims {
        hidden,
        layers: hidden.checked_div(WIDTH_STEP).unwrap_or_default().max(1),
        vocab: hidden.saturating_mul(VOCAB_PER_WIDTH),
        rotary: container.unit().div_ceil(4),
    }
}

/// Bytes of the file, padding of the header included. Offsets in a JSON header
/// grow with the rotary table, so their digits are counted as if it were as
/// large as the file.
fn needed(container: Container, dims: Dims, size: u64) -> Option<u64> {
    let tensors = list(container.scheme(), dims)?;
    let widest = Dims {
        rotary: size,
        ..dims
    };
    let header = container.header(widest, &list(container.scheme(), widest)?);
    let header = u64::try_from(header.len()).ok()?;
    header
        .checked_next_multiple_of(container.unit())?
        .checked_add(data_len(&tensors)?)
}

fn data_len(tensors: &[Tensor]) -> Option<u64> {
    tensors.iter().try_fold(0_u64, |sum, t| {
        sum.checked_add(t.len)?.checked_add(t.padding)
    })
}

/// The final plan: whatever the data leaves of `size` is header.
fn plan(container: Container, dims: Dims, size: u64) -> Option<Plan> {
    let tensors = list(container.scheme(), dims)?;
    let mut header = container.header(dims, &tensors);
    let room = size.checked_sub(data_len(&tensors)?)?;
    // Guards the reasoning about digits above: a header never loses its end.
    if u64::try_from(header.len()).ok()? > room {
        return None;
    }
    container.pad(&mut header, room);
    Some(Plan {
        dims,
        header,
        tensors,
    })
}

/// The largest number in `low..=high` for which `good` holds, given that it
/// holds for `low` and, once it fails, for no larger one.
fn last_that(low: u64, high: u64, good: impl Fn(u64) -> bool) -> u64 {
    // Strides that double: the answer is mostly near, and far tries are dear.
    let (mut low, mut step) = (low, 1_u64);
    let mut next = low.saturating_add(step);
    while next <= high && good(next) {
        low = next;
        step = step.saturating_mul(2);
        next = low.saturating_add(step);
    }
    let mut high = high.min(next.saturating_sub(1)).max(low);
    while low < high {
        // Rounded up, so that the range always shrinks.
        let middle = high.saturating_sub(high.saturating_sub(low) / 2);
        if good(middle) {
            low = middle;
        } else {
            high = middle.saturating_sub(1);
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::super::MAX_BYTES;
    use super::*;
    use crate::format::{Format, Limits, ReadAt, parse_with};

    #[test]
    fn the_search_finds_the_border() {
        for border in 3..40 {
            assert_eq!(last_that(3, 39, |n| n <= border), border);
        }
        assert_eq!(last_that(5, 5, |_| true), 5);
        assert_eq!(last_that(5, 4, |_| true), 5);
    }

    /// A file of which only the header is there.
    struct Sparse(Vec<u8>, u64);

    impl ReadAt for Sparse {
        fn len(&self) -> u64 {
            self.1
        }

        fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            out.fill(0);
            let start = usize::try_from(offset).unwrap();
            let there = self.0.get(start..).unwrap_or_default();
            out.iter_mut().zip(there).for_each(|(o, b)| *o = *b);
            Ok(())
        }
    }

    #[test]
    fn plans_of_every_magnitude_parse_and_fill_their_size() {
        let limits = Limits {
            file_bytes: MAX_BYTES,
            ..Limits::default()
        };
        for bits in (16..=40).step_by(3) {
            for size in [
                (1_u64 << bits),
                (1 << bits) + 12_345,
                (1_u64 << bits) * 3 / 2,
            ] {
                let size = size.min(MAX_BYTES);
                for (container, format) in [
                    (Container::Safetensors, Format::Safetensors),
                    (Container::Gguf, Format::Gguf),
                ] {
                    let plan = fit(container, size).unwrap();
                    let len = plan.header.len() as u64 + data_len(&plan.tensors).unwrap();
                    assert_eq!(len, size / container.unit() * container.unit());
                    let src = Sparse(plan.header, len);
                    let table = parse_with(format, &src, &limits).unwrap();
                    assert_eq!(table.tensors().len(), plan.tensors.len());
                    for (found, planned) in table.tensors().iter().zip(&plan.tensors) {
                        assert_eq!(*found.name, *planned.name);
                        assert_eq!((found.dtype, found.len), (planned.dtype, planned.len));
                        assert_eq!(*found.shape, *planned.shape);
                    }
                }
            }
        }
    }

    #[test]
    fn models_of_known_sizes_have_likely_shapes() {
        let dims = |size| fit(Container::Safetensors, size).unwrap().dims;
        let large = dims(16 << 30);
        assert!((3_500..5_000).contains(&large.hidden), "{large:?}");
        assert!((24..48).contains(&large.layers), "{large:?}");
        let tiny = dims(64 * 1024);
        assert_eq!((tiny.hidden, tiny.layers), (32, 1));
    }
}
