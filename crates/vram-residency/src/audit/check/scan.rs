//! Reads every line once: its number, its hash and where it stands.

use std::io::{self, BufRead, Read};

use super::super::Body;
use super::super::line::{self, CURRENT, MAX_LINE_BYTES};
use super::super::merkle::{Hash, leaf_hash};
use super::files::Files;

/// One line, or lines in a row that claim no number: a byte is enough for one of those,
/// and nothing has to be known of it but that it is there.
pub(crate) struct Line {
    /// Index into [`Scan::files`].
    pub(crate) file: usize,
    /// From 1.
    pub(crate) number: u64,
    /// The event number it claims.
    pub(crate) seq: Option<u64>,
    /// Zero without a number.
    pub(crate) hash: Hash,
    /// How many lines.
    pub(crate) count: u64,
}

/// The end of the last file when no newline closes it.
pub(crate) struct Torn {
    pub(crate) line: Line,
    pub(crate) len: u64,
}

/// All lines of a log, in the order of the segments.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) files: Vec<String>,
    pub(crate) lines: Vec<Line>,
    /// What lines claim that the log says of itself, by their place in `lines`.
    pub(crate) own: Vec<(usize, Body)>,
    pub(crate) torn: Option<Torn>,
    /// Last lines of finished segments that no newline closes, by their place in `lines`.
    pub(crate) no_newline: Vec<usize>,
    pub(crate) clock_steps_back: u64,
}

impl Line {
    /// The number of the line after it.
    pub(crate) const fn next_number(&self) -> u64 {
        self.number.saturating_add(self.count)
    }
}

impl Scan {
    /// How many lines there are.
    pub(crate) fn count(&self) -> u64 {
        let counts = self.lines.iter().map(|line| line.count);
        counts.fold(0, u64::saturating_add)
    }

    /// Counts a line to the ones above it when none of them has a number.
    fn repeats(&mut self, line: &Line) -> bool {
        let last = self.lines.last_mut();
        let last = last.filter(|last| last.file == line.file && last.seq.or(line.seq).is_none());
        let Some(last) = last else {
            return false;
        };
        last.count = last.count.saturating_add(1);
        true
    }

    /// The newest segment's name.
    pub(crate) fn last_file(&self) -> &str {
        self.files.last().map_or(CURRENT, String::as_str)
    }

    pub(crate) fn file_of(&self, line: &Line) -> &str {
        self.files.get(line.file).map_or(CURRENT, String::as_str)
    }
}

/// The segments among `names`, oldest first.
pub(crate) fn segments(names: &[String]) -> Vec<String> {
    let mut old: Vec<_> = names
        .iter()
        .filter_map(|name| Some((line::segment_first(name)?, name.clone())))
        .collect();
    old.sort();
    let current = names.iter().filter(|name| *name == CURRENT).cloned();
    old.into_iter()
        .map(|(_, name)| name)
        .chain(current)
        .collect()
}

pub(crate) fn scan(files: &dyn Files, names: &[String]) -> io::Result<Scan> {
    let mut scan = Scan {
        files: segments(names),
        ..Scan::default()
    };
    let mut time = Vec::new();
    for file in 0..scan.files.len() {
        if let Some(torn) = scan.torn.take() {
            // Only the newest segment can end in the middle of a line.
            scan.no_newline.push(scan.lines.len());
            scan.lines.push(torn.line);
        }
        segment(files, file, &mut scan, &mut time)?;
    }
    Ok(scan)
}

fn segment(files: &dyn Files, file: usize, scan: &mut Scan, time: &mut Vec<u8>) -> io::Result<()> {
    let name = scan.files.get(file).cloned().unwrap_or_default();
    let mut reader = files.open(&name)?;
    let (mut number, mut bytes) = (0_u64, Vec::new());
    while next_line(reader.as_mut(), &mut bytes)? {
        number = number.saturating_add(1);
        let text = bytes.strip_suffix(b"\n");
        let claims = line::claims(&bytes);
        let line = Line {
            file,
            number,
            seq: claims.map(|(seq, _)| seq),
            hash: claims.map_or(Hash::default(), |_| leaf_hash(text.unwrap_or(&bytes))),
            count: 1,
        };
        if text.is_none() && bytes.len() < MAX_LINE_BYTES {
            let len = bytes.len() as u64;
            scan.torn = Some(Torn { line, len });
            break;
        }
        if scan.repeats(&line) {
            continue;
        }
        if let Some((_, at)) = claims {
            let last = scan.lines.last().and_then(|last| last.seq?.checked_add(1));
            // Lines that were moved say nothing of the clock.
            if time.as_slice() > at && last == line.seq {
                scan.clock_steps_back = scan.clock_steps_back.saturating_add(1);
            }
            time.clear();
            time.extend_from_slice(at);
        }
        let own = line::own(text.unwrap_or(&bytes));
        scan.own.extend(own.map(|body| (scan.lines.len(), body)));
        scan.lines.push(line);
    }
    Ok(())
}

/// The next line with its newline; a longer one than allowed comes in pieces.
pub(crate) fn next_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let limit = MAX_LINE_BYTES as u64;
    Ok(reader.take(limit).read_until(b'\n', line)? > 0)
}
