//! The probes on one process, some of which can be taken away for a while.

use std::thread::{self, JoinHandle};

use memtrace_common::{Slot, call::Call};

use super::notice;
use crate::{
    allocator::ProbeSite,
    kernel::{
        KernelError, Tracer,
        links::{Halves, Links, Programs},
    },
    target::Pid,
};

/// All probes on a process.
#[derive(Default)]
pub(super) struct Probes {
    links: Links,
    /// Those that can be taken away by themselves, where they may have to; the others are in `links`.
    parted: Option<Parted>,
}

/// Probes on heap calls that can be taken away for a while.
#[derive(Default)]
struct Parted {
    allocations: Group,
    /// Reallocations, which release, are among them.
    releases: Group,
    /// Probes that are being taken away.
    leaving: Vec<JoinHandle<()>>,
}

/// Probes that come and go together.
#[derive(Default)]
struct Group {
    sites: Vec<ProbeSite>,
    probes: Halves,
    is_away: bool,
}

impl Probes {
    /// Attaches to all sites; those on heap calls apart if they `may_rest`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses one; none is in place then.
    pub(super) fn attach(
        tracer: &mut Tracer,
        pid: Pid,
        slot: Slot,
        sites: &[ProbeSite],
        programs: Programs,
        may_rest: bool,
    ) -> Result<Self, KernelError> {
        if !may_rest {
            let links = tracer.attach(pid, slot, sites, programs)?;
            notice::by_system_call(pid, &tracer.take_refused());
            return Ok(Self { links, parted: None });
        }
        let (mut parted, mut sites, all) = (Parted::default(), Vec::new(), sites.iter().cloned());
        for site in all {
            match site.call {
                Call::Allocate => parted.allocations.sites.push(site),
                Call::Release | Call::ReleaseOuter | Call::Reallocate => parted.releases.sites.push(site),
                _ => sites.push(site),
            }
        }
        let links = tracer.attach(pid, slot, &sites, programs)?;
        notice::by_system_call(pid, &tracer.take_refused());
        parted.releases.attach(tracer, pid, slot, programs)?;
        parted.allocations.attach(tracer, pid, slot, programs)?;
        Ok(Self { links, parted: Some(parted) })
    }

    /// Whether some can be taken away by themselves.
    pub(super) const fn may_rest(&self) -> bool {
        self.parted.is_some()
    }

    /// Whether some have been taken away and not put back.
    pub(super) fn are_some_away(&self) -> bool {
        self.parted.as_ref().is_some_and(|parted| parted.allocations.is_away || parted.releases.is_away)
    }

    /// Takes over others of the same process.
    pub(super) fn extend(&mut self, more: Self) {
        self.links.extend(more.links);
        if let (Some(parted), Some(more)) = (&mut self.parted, more.parted) {
            parted.allocations.extend(more.allocations);
            parted.releases.extend(more.releases);
        }
    }

    /// Takes those on allocations away; releases go on being seen.
    pub(super) fn rest(&mut self, tracer: &mut Tracer, slot: Slot) -> Result<(), KernelError> {
        if let Some(parted) = &mut self.parted {
            tracer.close_sessions(slot)?;
            let probes = parted.allocations.take();
            parted.leaving.push(thread::spawn(move || probes.detach()));
        }
        Ok(())
    }

    /// Takes all on heap calls away, at once: what calls that have begun leave behind is forgotten when the probes come back
    /// (`Feed::begin_window`).
    pub(super) fn leave(&mut self) {
        if let Some(parted) = &mut self.parted {
            let mut links = parted.allocations.take().into_links();
            links.extend(parted.releases.take().into_links());
            parted.leaving.push(thread::spawn(move || links.detach()));
        }
    }

    /// Puts them back, those on releases first.
    pub(super) fn resume(&mut self, tracer: &mut Tracer, pid: Pid, slot: Slot) -> Result<(), KernelError> {
        let Some(Parted { allocations, releases, leaving }) = &mut self.parted else { return Ok(()) };
        // Before Linux 6.10 it takes seconds. Two probes on one place would tell of everything twice. A thread that panicked has
        // dropped its links all the same.
        leaving.drain(..).for_each(|thread| drop(thread.join()));
        for group in [releases, allocations].into_iter().filter(|group| group.is_away) {
            group.attach(tracer, pid, slot, Programs::Trace)?;
        }
        Ok(())
    }

    /// All of them, to be taken away; those that come later may rest as before.
    pub(super) fn take_links(&mut self) -> Links {
        let mut links = std::mem::take(&mut self.links);
        if let Some(Parted { allocations, releases, .. }) = self.parted.as_mut().map(std::mem::take) {
            links.extend(allocations.probes.into_links());
            links.extend(releases.probes.into_links());
        }
        links
    }
}

impl Group {
    fn attach(&mut self, tracer: &mut Tracer, pid: Pid, slot: Slot, programs: Programs) -> Result<(), KernelError> {
        self.probes = tracer.attach_halves(pid, slot, &self.sites, programs)?;
        self.is_away = false;
        Ok(())
    }

    /// Its probes, to be taken away.
    fn take(&mut self) -> Halves {
        self.is_away = true;
        std::mem::take(&mut self.probes)
    }

    fn extend(&mut self, other: Self) {
        self.sites.extend(other.sites);
        if self.is_away {
            // They come back with the others.
            other.probes.detach();
        } else {
            self.probes.extend(other.probes);
        }
    }
}
