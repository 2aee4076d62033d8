//! Puts copies of probed code right.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io,
    mem::MaybeUninit,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    ptr,
};

use super::{
    breakpoint::{self, AROUND, Breakpoint, INT3},
    message::Identity,
};
use crate::object::{Pid, maps};

/// How much of one process is searched for copies at once.
const MAX_SEARCHED_BYTES: u64 = 1 << 30;

/// How much is read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What is known of probes, and of copies of the code that they are in.
#[derive(Default)]
pub(super) struct Mender {
    sites: Vec<Breakpoint>,
    /// The files that the sites are in, where the kernel answers for the breakpoints.
    objects: HashSet<Identity>,
    /// Where breakpoints have been taken out of copies: a second thread may have run into one before.
    mended: HashSet<u64>,
}

impl Mender {
    /// Probes are in this file.
    pub(super) fn add_object(&mut self, object: Identity) {
        self.objects.insert(object);
    }

    /// A place of one of them.
    pub(super) fn add_site(&mut self, site: Breakpoint) {
        if !self.sites.contains(&site) {
            self.sites.push(site);
        }
    }

    /// Whether no probe is known that could have been copied.
    pub(super) fn is_idle(&self) -> bool {
        self.sites.is_empty()
    }

    /// A thread has run into a breakpoint: if it is one of ours in a copy, the copies are put right, and the thread stands
    /// before the instruction again. `None` if it is not.
    pub(super) fn mend(&mut self, thread: i32) -> Option<Mended> {
        let mut registers = MaybeUninit::<libc::user_regs_struct>::uninit();
        // SAFETY: the thread is stopped and held by us; the registers are written whole when the call succeeds.
        let mut registers = unsafe {
            let read = libc::ptrace(libc::PTRACE_GETREGS, thread, ptr::null_mut::<u8>(), registers.as_mut_ptr());
            if read != 0 {
                return None;
            }
            registers.assume_init()
        };
        let address = registers.rip.checked_sub(1)?;
        let pid = Pid(thread.cast_unsigned());
        let mappings = maps::read(pid).ok()?;
        let mapping = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address))?;
        if self.objects.contains(&Identity::of(mapping)) {
            return None;
        }
        let memory = Memory::open(pid).ok()?;
        let start = address.saturating_sub(AROUND as u64).max(mapping.start);
        let mut around = vec![0; (mapping.end.min(address + 1 + AROUND as u64) - start) as usize];
        memory.0.read_exact_at(&mut around, start).ok()?;
        let index = (address - start) as usize;
        breakpoint::at(&self.sites, &around, index)?;
        let breakpoints = if around[index] == INT3 {
            let mut mended = self.mend_mapping(&memory, mapping);
            if !mended.contains(&address) {
                return None;
            }
            for other in mappings.iter().filter(|other| other.start != mapping.start) {
                if !self.may_be_copy(other) {
                    continue;
                }
                mended.extend(self.mend_mapping(&memory, other));
            }
            mended.len() as u64
        } else if self.mended.contains(&address) {
            0
        } else {
            return None;
        };
        registers.rip = address;
        // SAFETY: as above; the registers are only read.
        let set = unsafe { libc::ptrace(libc::PTRACE_SETREGS, thread, ptr::null_mut::<u8>(), &raw const registers) };
        (set == 0).then_some(Mended { address, breakpoints })
    }

    fn may_be_copy(&self, mapping: &maps::Mapping) -> bool {
        mapping.executable && !self.objects.contains(&Identity::of(mapping))
    }

    /// Takes our breakpoints out of a mapping; the addresses of those that are out.
    fn mend_mapping(&mut self, memory: &Memory, mapping: &maps::Mapping) -> Vec<u64> {
        let mut mended = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        let end = mapping.end.min(mapping.start.saturating_add(MAX_SEARCHED_BYTES));
        let mut start = mapping.start;
        while start < end {
            let length = usize::try_from(end - start).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            if memory.0.read_exact_at(&mut piece[..length], start).is_ok() {
                for (index, original) in breakpoint::find(&self.sites, &piece[..length]) {
                    let address = start + index as u64;
                    if memory.0.write_all_at(&[original], address).is_ok() {
                        mended.push(address);
                    }
                }
            }
            if length < PIECE_BYTES {
                break;
            }
            // What is cut by a piece's edge is whole in the next one.
            start += (length - 2 * AROUND) as u64;
        }
        self.mended.extend(&mended);
        mended
    }

    /// The probes are gone: takes their breakpoints out of a process's copies that have not run yet.
    pub(super) fn sweep(&mut self, pid: Pid) -> Vec<Mended> {
        let (Ok(mappings), Ok(memory)) = (maps::read(pid), Memory::open(pid)) else { return Vec::new() };
        let mut found = Vec::new();
        for mapping in mappings.iter().filter(|mapping| self.may_be_copy(mapping)).collect::<Vec<_>>() {
            let mended = self.mend_mapping(&memory, mapping);
            if let Some(&address) = mended.first() {
                found.push(Mended { address, breakpoints: mended.len() as u64 });
            }
        }
        found
    }
}

/// Where a thread ran into a breakpoint, and how many were taken out.
#[derive(Clone, Copy)]
pub(super) struct Mended {
    pub(super) address: u64,
    pub(super) breakpoints: u64,
}

/// The memory of a process, also where the process itself may not write.
struct Memory(File);

impl Memory {
    fn open(pid: Pid) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open::<PathBuf>(pid.proc_path("mem")).map(Self)
    }
}
