//! What the machine holds, as JSON.

use std::fmt::Write as _;

use super::physical::memory_name;
use super::space::Kind;
use super::state::Driver;

/// The answer to `what`: `report`, `trace`, `log`, `find HEX`. `None`: no such
/// question.
pub(crate) fn query(driver: &Driver, what: &str) -> Option<String> {
    if let Some(hex) = what.strip_prefix("find ") {
        let needle = bytes_of(hex).filter(|needle| !needle.is_empty())?;
        let (devices, host) = driver.space.occurrences(&needle);
        return Some(format!("{devices} {host}"));
    }
    match what {
        "report" => Some(report(driver)),
        "trace" => {
            let rows = driver.plan.counts.iter();
            let rows: Vec<String> = rows
                .map(|(name, count)| format!("{}:{count}", quoted(name)))
                .collect();
            Some(format!("{{{}}}", rows.join(",")))
        }
        "log" => {
            let rows: Vec<String> = driver.log.iter().map(|line| quoted(line)).collect();
            Some(format!("[{}]", rows.join(",")))
        }
        _ => None,
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() {
        pairs.iter().map(byte).collect()
    } else {
        None
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if u32::from(c) < 0x20 => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn report(driver: &Driver) -> String {
    let regions = |kind: Kind| {
        driver
            .space
            .regions
            .values()
            .filter(move |r| r.kind == kind)
    };
    let bytes = |kind: Kind| regions(kind).map(|r| r.len).sum::<u64>();
    let handles: u64 = driver.space.physical.values().map(|p| p.handles).sum();
    let user_streams = driver.queues.streams.values().filter(|s| !s.legacy).count();
    let pinned = bytes(Kind::Host).saturating_add(bytes(Kind::Registered));
    let pinned_blocks = regions(Kind::Host).chain(regions(Kind::Registered)).count();
    let numbers = [
        ("contexts", driver.contexts.len() as u64),
        (
            "retained",
            driver.contexts.values().map(|c| c.retained).sum(),
        ),
        ("streams", user_streams as u64),
        ("events", driver.queues.events.len() as u64),
        ("modules", driver.modules.len() as u64),
        ("pending", driver.queues.pending() as u64),
        ("device_allocations", regions(Kind::Device).count() as u64),
        ("device_bytes", bytes(Kind::Device)),
        ("managed_bytes", bytes(Kind::Managed)),
        ("pinned_blocks", pinned_blocks as u64),
        ("pinned_bytes", pinned),
        ("mappings", regions(Kind::Mapped).count() as u64),
        ("mapped_bytes", bytes(Kind::Mapped)),
        ("reservations", driver.space.reservations.len() as u64),
        (
            "reserved_bytes",
            driver.space.reservations.values().map(|r| r.len).sum(),
        ),
        ("handles", handles),
        ("descriptors_exported", driver.descriptors_exported),
        ("driver_descriptors", driver_descriptors(driver)),
        ("open_descriptors", open_descriptors()),
    ];
    let numbers: Vec<String> = numbers
        .iter()
        .map(|(k, v)| format!("{}:{v}", quoted(k)))
        .collect();
    let used: Vec<String> = (0..driver.devices.len())
        .map(|d| driver.used(d).to_string())
        .collect();
    let broken = driver.contexts.values().filter(|c| c.sticky.is_some());
    let broken: Vec<String> = broken.map(|c| c.device.to_string()).collect();
    let stack = driver.stack(|s| s.iter().map(u64::to_string).collect::<Vec<_>>());
    format!(
        "{{{},\"used\":[{}],\"broken\":[{}],\"stack\":[{}],\"physical\":[{}]}}",
        numbers.join(","),
        used.join(","),
        broken.join(","),
        stack.join(","),
        physical(driver).join(",")
    )
}

/// Descriptors that the driver itself keeps open for shareable memory.
fn driver_descriptors(driver: &Driver) -> u64 {
    driver
        .space
        .physical
        .values()
        .filter(|p| p.backing.is_shareable())
        .count() as u64
}

/// Descriptors of this machine's shareable memory that this process has open:
/// the driver's own, and those that were exported or copied and not closed.
fn open_descriptors() -> u64 {
    // The kernel shows a memfd as `/memfd:NAME (deleted)`.
    let shown = format!(":{} ", memory_name());
    let links = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let links = links.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links
        .filter(|link| link.to_string_lossy().contains(&shown))
        .count() as u64
}

/// Every physical allocation with the addresses that show it.
fn physical(driver: &Driver) -> Vec<String> {
    let row = |(serial, p): (&u64, &super::space::Physical)| {
        let regions = driver
            .space
            .regions
            .iter()
            .filter(|(_, r)| r.physical == Some(*serial));
        let places: Vec<String> = regions
            .map(|(start, r)| {
                let rights: Vec<String> = r.rights.iter().map(u32::to_string).collect();
                let kind = quoted(&format!("{:?}", r.kind).to_lowercase());
                format!(
                    "{{\"address\":{start},\"bytes\":{},\"kind\":{kind},\"rights\":[{}]}}",
                    r.len,
                    rights.join(",")
                )
            })
            .collect();
        let device = p.device.map_or("null".to_owned(), |d| d.to_string());
        format!(
            "{{\"serial\":{serial},\"bytes\":{},\"device\":{device},\"handles\":{},\"imported\":{},\"shareable\":{},\"places\":[{}]}}",
            p.backing.len(),
            p.handles,
            p.imported,
            p.backing.is_shareable(),
            places.join(",")
        )
    };
    driver.space.physical.iter().map(row).collect()
}
