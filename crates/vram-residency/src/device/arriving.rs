//! What is measured of an extent while its bytes arrive.

use super::DeviceError;

/// One value for each unit of an extent; units arrive in any order. Room is taken
/// as they come: a source that claims to be large costs nothing before its bytes
/// are there.
#[derive(Debug)]
pub(crate) struct Arriving<T> {
    values: Vec<T>,
    units: u64,
    blank: T,
}

impl<T: Copy> Arriving<T> {
    /// Nothing yet of so many units; `blank` stands for those that are not there
    /// while later ones are.
    pub(crate) const fn new(units: u64, blank: T) -> Self {
        Self {
            values: Vec::new(),
            units,
            blank,
        }
    }

    /// Takes in the values of the units from `at` on.
    ///
    /// # Errors
    /// [`DeviceError::OutOfRange`] past the last unit;
    /// [`DeviceError::HostOutOfMemory`] where the system has no room.
    pub(crate) fn put(&mut self, at: u64, values: &[T]) -> Result<(), DeviceError> {
        let len = values.len() as u64;
        let outside = DeviceError::OutOfRange {
            offset: at,
            len,
            size: self.units,
        };
        let end = at.checked_add(len).filter(|end| *end <= self.units);
        let Some(end) = end else {
            return Err(outside);
        };
        let (start, end) = (index(at), index(end));
        if end > self.values.len() {
            self.make_room(end)?;
            self.values.resize(end, self.blank);
        }
        match self.values.get_mut(start..end) {
            Some(place) => place.copy_from_slice(values),
            None => return Err(outside),
        }
        Ok(())
    }

    /// Room for so many values: twice as much as before, so that few moves are
    /// made, and never more than there are units.
    fn make_room(&mut self, wanted: usize) -> Result<(), DeviceError> {
        let (len, had) = (self.values.len(), self.values.capacity());
        if wanted <= had {
            return Ok(());
        }
        let most = index(self.units);
        let room = wanted.max(had.saturating_mul(2)).min(most);
        let made = self.values.try_reserve_exact(room.saturating_sub(len));
        made.map_err(|_| DeviceError::HostOutOfMemory {
            requested: (room as u64).saturating_mul(size_of::<T>() as u64),
        })
    }

    /// All values, once every unit is there.
    pub(crate) fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.values)
    }
}

fn index(unit: u64) -> usize {
    usize::try_from(unit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_the_order_of_units_however_they_come() {
        let mut arriving = Arriving::new(7, 0_u8);
        for (at, values) in [(4, &[5, 6][..]), (0, &[1, 2]), (6, &[7]), (2, &[3, 4])] {
            arriving.put(at, values).unwrap();
        }
        assert_eq!(arriving.values.capacity(), 7);
        for (at, values) in [(7, &[8][..]), (6, &[7, 8]), (u64::MAX, &[1, 2])] {
            assert!(matches!(
                arriving.put(at, values),
                Err(DeviceError::OutOfRange { size: 7, .. })
            ));
        }
        assert_eq!(arriving.take(), [1, 2, 3, 4, 5, 6, 7]);
    }

    // requirement: PF-11
    #[test]
    fn what_is_only_claimed_takes_no_room() {
        let mut arriving = Arriving::new(u64::MAX, [0_u8; 32]);
        arriving.put(0, &[[1; 32]; 100]).unwrap();
        arriving.put(100, &[[2; 32]; 1]).unwrap();
        assert!(arriving.values.capacity() <= 200);
        let no_room = arriving.put(u64::MAX - 1, &[[3; 32]]);
        assert!(matches!(no_room, Err(DeviceError::HostOutOfMemory { .. })));
        assert_eq!(arriving.take().len(), 101);
    }
}
