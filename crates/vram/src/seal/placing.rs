//! Which file goes to which device.

use vram_residency::VramManager;
use vram_residency::capacity::plan::{Plan, PlanPart};
use vram_residency::error::Code;

use crate::device::DeviceSpec;
use crate::failure::Failure;
use crate::text;

/// The device of each file, of one model or of several, once it is known that
/// all have room. On several devices they are spread, so that as many as can be
/// are loaded at the same time; where one has no room left then, they lie as
/// `vram plan` says.
pub(super) fn place(
    manager: &VramManager,
    files: &[PlanPart],
    of_model: bool,
) -> Result<Vec<u32>, Failure> {
    let devices = manager.devices();
    let Some(first) = devices.first().map(|first| first.ordinal) else {
        return Err(Failure::new("no device"));
    };
    // One file on one device: before it is read the load asks for its room.
    if devices.len() == 1 && files.len() == 1 {
        return Ok(vec![first]);
    }
    let plan = manager.plan_spread(files, 0)?;
    let places = plan.placements.iter().map(|placement| placement.ordinal);
    let places = places.collect::<Option<Vec<u32>>>();
    let places = places.filter(|_| plan.fits);
    places.ok_or_else(|| full(&plan, of_model))
}

fn full(plan: &Plan, of_model: bool) -> Failure {
    let (what, hint) = match of_model {
        true => (
            "the model does not fit on these devices",
            "nothing was loaded; 'vram plan' says what is missing where",
        ),
        false => (
            "the files do not fit on these devices",
            "nothing was loaded; name more devices, or fewer files at a time",
        ),
    };
    let lost = plan.placements.iter().filter(|one| one.ordinal.is_none());
    let failure = Failure::new(what).coded(Code::VramOom).hint(hint);
    let failure = lost.fold(failure, |failure, one| {
        let (file, size) = (text::printable(&one.part), text::size(one.bytes));
        failure.with_note(format!("{file}: {size}, {} bytes missing", one.missing))
    });
    match plan.certain {
        true => failure,
        false => failure.with_note("not every layout was tried: another one may fit"),
    }
}

/// A scripted flip behind every file of its device would never strike, and who
/// tests an alarm with it would believe that it works.
pub(super) fn check_flips(
    specs: &[DeviceSpec],
    manager: &VramManager,
    files: &[PlanPart],
    places: &[u32],
) -> Result<(), Failure> {
    for (spec, info) in specs.iter().zip(manager.devices()) {
        let Some(offset) = spec.largest_flip() else {
            continue;
        };
        let here = files.iter().zip(places);
        let here = here.filter(|(_, place)| **place == info.ordinal);
        let lengths: Vec<u64> = here.map(|(file, _)| file.bytes).collect();
        if lengths.iter().any(|bytes| *bytes > offset) {
            continue;
        }
        let flip = format!("the flip at offset {offset} of {spec}");
        return Err(Failure::usage(match lengths.iter().max() {
            Some(longest) => format!(
                "{flip} lies behind the end of every file there; the longest has {longest} bytes"
            ),
            None => format!("{flip} never strikes: no file goes to that device"),
        }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vram_residency::capacity::plan::{PlanDevice, plan};

    use super::*;

    #[test]
    fn what_does_not_fit_says_what_to_do_and_how_certain_that_is() {
        let device = PlanDevice {
            ordinal: 0,
            available: 10,
            granularity: 1,
            reserve: 0,
            resident: Vec::new(),
        };
        let part = PlanPart {
            name: "large".to_owned(),
            bytes: 17,
            padding: 0,
        };
        let mut plan = plan(&[device], &[part]);
        let certain = full(&plan, true);
        assert_eq!(certain.notes(), ["large: 17 bytes, 7 bytes missing"]);
        assert!(certain.advice().unwrap().contains("vram plan"));
        let files = full(&plan, false).advice().unwrap().to_owned();
        assert!(!files.contains("vram plan"), "it takes one model: {files}");
        plan.certain = false;
        let notes = full(&plan, true).notes().to_vec();
        assert_eq!(notes[1], "not every layout was tried: another one may fit");
    }
}
