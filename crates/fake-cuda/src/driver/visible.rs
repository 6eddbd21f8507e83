//! Which devices a process sees, and under which numbers:
//! `CUDA_VISIBLE_DEVICES`, as the CUDA programming guide describes it.

/// Bytes that say what a device is, its number last.
pub(crate) fn uuid(kind: Kind, number: usize) -> [u8; 16] {
    let mut uuid = match kind {
        Kind::Card => *b"fake-cuda-gpu-\0\0",
        Kind::Slice => *b"fake-cuda-mig-\0\0",
    };
    if let Some(last) = uuid.last_mut() {
        *last = u8::try_from(number).unwrap_or(u8::MAX);
    }
    uuid
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole GPU.
    Card,
    /// A part of a GPU that is divided (MIG).
    Slice,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Kind::Card => "GPU-",
            Kind::Slice => "MIG-",
        }
    }
}

/// The devices of `there` in the order of their new numbers.
///
/// Without a list all are seen, but only the first slice of a divided card: a
/// process can use one. A list names devices by number or by UUID, which may be
/// cut short while it is unique; the first word that names none ends it, and a
/// device named twice is a mistake that hides all. Slices have no numbers.
pub(crate) fn visible(list: Option<&str>, kind: Kind, there: usize) -> Vec<usize> {
    let most = match kind {
        Kind::Card => there,
        Kind::Slice => 1,
    };
    let Some(list) = list else {
        return (0..there).take(most).collect();
    };
    let words = list.split(',').map(|word| find(word.trim(), kind, there));
    let mut seen = Vec::new();
    for found in words.map_while(|found| found) {
        if seen.contains(&found) {
            return Vec::new();
        }
        seen.push(found);
    }
    seen.truncate(most);
    seen
}

fn find(word: &str, kind: Kind, there: usize) -> Option<usize> {
    if kind == Kind::Card
        && let Ok(number) = word.parse::<usize>()
    {
        return Some(number).filter(|number| *number < there);
    }
    let hex: String = word.strip_prefix(kind.prefix())?.split('-').collect();
    let matches = |number: &usize| {
        let bytes = uuid(kind, *number);
        let all: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        !hex.is_empty() && all.starts_with(&hex.to_lowercase())
    };
    let mut found = (0..there).filter(matches);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "GPU-66616b65-2d63-7564-612d-6770752d0000";
    const SECOND: &str = "gpu";

    #[test]
    fn a_list_selects_and_orders_devices() {
        let card = |list| visible(Some(list), Kind::Card, 3);
        assert_eq!(visible(None, Kind::Card, 3), [0, 1, 2]);
        assert_eq!(card("2,0"), [2, 0]);
        assert_eq!(card(" 1 , 2 "), [1, 2]);
        assert_eq!(card(FIRST), [0]);
        let third = FIRST.replace("0000", "0002");
        assert_eq!(visible(Some(&third), Kind::Card, 3), [2]);
        // Cut short, it names all three, and so none.
        assert_eq!(card("GPU-66616b65"), [0; 0]);
        assert_eq!(visible(Some("GPU-66616b65"), Kind::Card, 1), [0]);
        for none in ["", "-1", "7", "x,0", "NoDevFiles", "0,0", "GPU-", SECOND] {
            assert_eq!(card(none), [0; 0], "{none}");
        }
        assert_eq!(card("1,7,0"), [1], "a bad word ends the list");
    }

    #[test]
    fn a_process_sees_one_slice_of_a_divided_card() {
        let slice = "MIG-66616b65-2d63-7564-612d-6d69672d0001";
        assert_eq!(visible(None, Kind::Slice, 3), [0]);
        assert_eq!(visible(Some(slice), Kind::Slice, 3), [1]);
        assert_eq!(visible(Some("0"), Kind::Slice, 3), [0; 0]);
        let two = format!("{slice},MIG-66616b65-2d63-7564-612d-6d69672d0000");
        assert_eq!(visible(Some(&two), Kind::Slice, 3), [1]);
    }
}
