//! Where a process comes from: its parent, when it began, and whether both still run the same image.

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

use super::{
    Pid,
    process::read_proc,
    status::{start_ticks, stat_field},
};

/// What `/proc/PID/stat` says of a process's origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The parent now; another than the one that forked it if that has ended.
    pub parent: Pid,
    /// When it began, on `CLOCK_MONOTONIC`, in nanoseconds: the end of the clock tick in which it did.
    pub began_ns: u64,
    /// Where its code and its stack begin. A fork keeps both; an exec draws new places.
    image: (u64, u64),
}

impl Origin {
    /// Of a process; `None` when it has ended, or the kernel keeps its places to itself.
    pub fn of(pid: Pid) -> Option<Origin> {
        Self::parse(&read_proc(pid, "stat", None).ok()?, boot_less_monotonic_ns())
    }

    fn parse(stat: &[u8], boot_less_monotonic_ns: u64) -> Option<Origin> {
        let parent = u32::try_from(stat_field(stat, 4)?).ok()?;
        let tick_ns = 1_000_000_000 / clock_ticks_per_second().max(1);
        let began_ns = (start_ticks(stat)? + 1).checked_mul(tick_ns)?.checked_sub(boot_less_monotonic_ns)?;
        let image = (stat_field(stat, 26)?, stat_field(stat, 28)?);
        (image.0 > 1 && image.1 != 0).then_some(Origin { parent: Pid(parent), began_ns, image })
    }

    /// Whether the two run one image: neither has called exec since the fork.
    pub fn shares_image(&self, other: &Origin) -> bool {
        self.image == other.image
    }
}

/// By how much the clock of start times, which counts while the machine sleeps, is ahead of the one of events.
fn boot_less_monotonic_ns() -> u64 {
    let nanoseconds = |clock| {
        let time = clock_gettime(clock);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    };
    let monotonic = nanoseconds(ClockId::Monotonic);
    nanoseconds(ClockId::Boottime).saturating_sub(monotonic)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_fields_are_those_of_the_kernels_text() {
        let stat =
            b"17 (a) b) S 7 17 17 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 250 1000 100 18446744073709551615 4096 8192 \
            140000 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        let origin = Origin::parse(stat, 1_000_000).unwrap();
        assert_eq!((origin.parent, origin.image), (Pid(7), (4096, 140_000)));
        assert_eq!(origin.began_ns, 251 * (1_000_000_000 / clock_ticks_per_second()) - 1_000_000);
        assert_eq!(Origin::parse(b"17 (a) S 7", 0), None);
    }

    #[test]
    fn a_new_image_is_told_from_a_copy() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let ours = Origin::of(Pid(std::process::id())).unwrap();
        // An exec shows no places until it has drawn them, and lets its parent go on before.
        let its = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            Origin::of(Pid(child.id()))
        });
        let its = its.unwrap();
        assert_eq!(its.parent, Pid(std::process::id()));
        assert!(!ours.shares_image(&its) && ours.shares_image(&ours) && its.began_ns >= ours.began_ns);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
