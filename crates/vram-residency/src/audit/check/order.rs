//! Which of some numbers stand out of their order.

/// Which of these numbers are a longest run of rising ones; of equal ones, the first.
/// What is moved is told from what it passed: whoever moves one line leaves all the
/// others in such a run.
pub(super) fn rising(numbers: &[usize]) -> Vec<bool> {
    if numbers.is_sorted_by(|one, next| one < next) {
        return vec![true; numbers.len()];
    }
    // The least number that ends a run of each length, and what each stands after: places.
    let (mut ends, mut before) = (Vec::<usize>::new(), Vec::with_capacity(numbers.len()));
    for (at, number) in numbers.iter().enumerate() {
        let longer = ends.partition_point(|end| numbers.get(*end) < Some(number));
        let last = longer.checked_sub(1).and_then(|last| ends.get(last));
        before.push(last.copied());
        match ends.get_mut(longer) {
            Some(end) if numbers.get(*end) == Some(number) => {}
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut in_run = vec![false; numbers.len()];
    let mut next = ends.last().copied();
    while let Some(at) = next {
        if let Some(slot) = in_run.get_mut(at) {
            *slot = true;
        }
        next = before.get(at).copied().flatten();
    }
    in_run
}

#[cfg(test)]
mod tests {
    use super::rising;

    /// The places that are out of order.
    fn moved(numbers: &[usize]) -> Vec<usize> {
        let kept = rising(numbers);
        (0..numbers.len()).filter(|at| !kept[*at]).collect()
    }

    #[test]
    fn only_what_was_moved_is_out_of_order() {
        for (numbers, expected) in [
            (&[][..], &[][..]),
            (&[3, 5, 9], &[]),
            // One line to the end, one to the front, two swapped, a block moved.
            (&[0, 2, 3, 4, 1], &[4]),
            (&[4, 0, 1, 2, 3], &[0]),
            (&[0, 5, 2, 3, 4, 1, 6], &[1, 5]),
            (&[0, 2, 1, 3], &[1]),
            (&[0, 1, 6, 7, 2, 3, 4, 5, 8], &[2, 3]),
            // A copy behind the line and one ahead of it.
            (&[0, 1, 2, 1, 3], &[3]),
            (&[0, 3, 1, 2, 3], &[1]),
            (&[0, 0, 0], &[1, 2]),
            (&[2, 1, 0], &[0, 1]),
        ] {
            assert_eq!(moved(numbers), expected, "{numbers:?}");
        }
    }
}
