//! Stops the processes of a tree where they begin: a forked child before its first instruction, and a new program when its
//! loader has mapped its libraries and before any of its own code has run.
//!
//! A stopped process is told of, and goes on when memtrace says so, or when that takes too long. The real parent sees none
//! of these stops, and neither do its job control and waits (ptrace(2)).
//!
//! From its exec on the loader is followed from system call to system call until it sets its thread up, which all
//! loaders do by then. Nothing is written into the process for this: should the helper be killed it just runs on, where a
//! trap in its code would end it.

use std::{
    collections::HashMap,
    fs, io,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    helper::{Helper, say},
    message::Answer,
    tracing::{event_message, is_job_control, parent_of, request, shares_memory, system_call},
};
use crate::target::{Pid, launch::has_loader};

/// How long a process waits for memtrace at its begin. memtrace may be stopped by a terminal's Ctrl-Z, and the tree is not
/// to stand still with it: once a process has waited in vain no other does until memtrace is heard of again.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a new process waits for its parent's word that it has started it, which is there at once unless the parent
/// was killed in that moment.
const PARENTS_WORD: Duration = Duration::from_millis(100);

/// A loader that makes more system calls than this before it sets its thread up is not followed to the end.
const MAX_LOADER_CALLS: u32 = 20_000;

/// Births that were told of by the parent and not by the child yet; beyond this number those of processes that have ended
/// are looked for.
const MAX_BIRTHS: usize = 1024;

/// The processes of the tree and what they wait for.
#[derive(Default)]
pub(super) struct Tree {
    /// Processes of the tree, and whether their children belong to it.
    processes: HashMap<u32, bool>,
    /// Children whose parent has told of them.
    births: HashMap<i32, Birth>,
    /// Children whose parent has not told of them yet.
    early: HashMap<i32, Early>,
    /// New programs whose loaders are at work.
    loading: HashMap<i32, Loading>,
    /// Processes that wait for memtrace.
    waiting: HashMap<i32, Waiting>,
    /// Nobody is to be stopped any more.
    is_free: bool,
    /// memtrace has let a process wait in vain, and has said nothing since.
    is_asleep: bool,
}

/// What a parent's stop tells of its child.
#[derive(Clone, Copy)]
struct Birth {
    /// The parent, which may end before its child is seen; 0 if it has not told.
    parent: u32,
    at_ns: u64,
    /// Whether the child belongs to the tree.
    follows: bool,
    /// Whether the child may run copies of probed code.
    mends: bool,
}

struct Early {
    since: Instant,
    at_ns: u64,
    signal: i32,
}

struct Loading {
    /// The thread that called exec.
    by: i32,
    /// Stops at system calls so far.
    calls: u32,
}

struct Waiting {
    since: Instant,
    /// The signal of its own job control that it was stopped by at its begin, 0 if none.
    stopped_by: i32,
}

impl Tree {
    pub(super) fn add(&mut self, process: u32, follow: bool) {
        if !self.is_free {
            self.processes.insert(process, follow);
        }
    }

    pub(super) fn remove(&mut self, process: u32) {
        self.processes.remove(&process);
    }

    /// A process has ended.
    pub(super) fn ended(&mut self, thread: i32) {
        self.processes.remove(&thread.cast_unsigned());
        self.births.remove(&thread);
        self.early.remove(&thread);
        self.loading.remove(&thread);
        self.waiting.remove(&thread);
    }

    /// What was started is a thread.
    pub(super) fn is_thread(&mut self, thread: i32) {
        self.births.remove(&thread);
    }

    /// memtrace has been heard of.
    pub(super) fn is_awake(&mut self) {
        self.is_asleep = false;
    }

    /// Whether the loader of a new program is at work.
    pub(super) fn loads(&self, thread: i32) -> bool {
        self.loading.contains_key(&thread)
    }
}

impl Helper {
    /// A thread has started another, or a process.
    pub(super) fn has_started(&mut self, thread: i32, process: u32) -> io::Result<()> {
        let Some(child) = event_message(thread) else { return Ok(()) };
        let mut birth = self.birth(process);
        if let Some(Early { at_ns, signal, .. }) = self.tree.early.remove(&child) {
            birth.at_ns = at_ns;
            return self.is_born(child, birth, signal);
        }
        if !self.threads.contains_key(&child) {
            if self.tree.births.len() >= MAX_BIRTHS {
                self.tree.births.retain(|child, _| fs::exists(format!("/proc/{child}")).unwrap_or(false));
            }
            self.tree.births.insert(child, birth);
        }
        Ok(())
    }

    fn birth(&self, parent: u32) -> Birth {
        let follows = self.tree.processes.get(&parent) == Some(&true);
        Birth { parent, at_ns: now_ns(), follows, mends: self.mending.contains(&parent) }
    }

    /// A new process stands before its first instruction.
    pub(super) fn first_stop(&mut self, child: i32, signal: i32) -> io::Result<()> {
        let signal = if is_job_control(signal) { signal } else { 0 };
        match self.tree.births.remove(&child) {
            Some(birth) => self.is_born(child, birth, signal),
            None => {
                // Until the parent has been seen to stop it does not go on either: what it does behind the fork is later.
                self.tree.early.insert(child, Early { since: Instant::now(), at_ns: now_ns(), signal });
                Ok(())
            }
        }
    }

    fn is_born(&mut self, child: i32, birth: Birth, stopped_by: i32) -> io::Result<()> {
        let process = child.cast_unsigned();
        let follows = birth.follows && !self.tree.is_free;
        if birth.mends {
            self.mending.insert(process);
        }
        if follows {
            self.tree.processes.insert(process, true);
        } else if !birth.mends {
            self.threads.remove(&child);
            let _ = request(libc::PTRACE_DETACH, child, 0);
            return Ok(());
        }
        // One that runs in its parent's memory until its exec allocates there, if anywhere.
        if follows && !shares_memory(birth.parent, process) {
            let answer = Answer::Born { pid: Pid(process), parent: Pid(birth.parent), at_ns: birth.at_ns };
            return self.wait(child, stopped_by, answer);
        }
        self.leave(child, stopped_by);
        Ok(())
    }

    /// Lets a process wait for memtrace, which is told.
    fn wait(&mut self, thread: i32, stopped_by: i32, answer: Answer) -> io::Result<()> {
        if self.tree.is_asleep {
            self.leave(thread, stopped_by);
            return say(Answer::Late(Pid(thread.cast_unsigned())));
        }
        self.tree.waiting.insert(thread, Waiting { since: Instant::now(), stopped_by });
        say(answer)
    }

    /// A process stands at its exec. False when that is not to be stopped.
    pub(super) fn begins(&mut self, thread: i32, process: u32) -> io::Result<bool> {
        self.tree.loading.remove(&thread);
        self.tree.waiting.remove(&thread);
        if self.tree.is_free || !self.tree.processes.contains_key(&process) {
            return Ok(false);
        }
        self.threads.insert(thread, process);
        let by = event_message(thread).unwrap_or(thread);
        if has_loader(Pid(process)) {
            self.tree.loading.insert(thread, Loading { by, calls: 0 });
            self.go_on(thread, 0);
        } else {
            self.is_ready(thread, by)?;
        }
        Ok(true)
    }

    /// A thread stands at a system call.
    pub(super) fn system_call(&mut self, thread: i32) -> io::Result<()> {
        let Some(loading) = self.tree.loading.get_mut(&thread) else {
            self.go_on(thread, 0);
            return Ok(());
        };
        loading.calls += 1;
        if loading.calls > MAX_LOADER_CALLS
            || system_call(thread).is_some_and(|(number, first)| has_loaded(number, first))
        {
            return self.is_loaded(thread);
        }
        self.go_on(thread, 0);
        Ok(())
    }

    fn is_loaded(&mut self, thread: i32) -> io::Result<()> {
        let by = self.tree.loading.remove(&thread).map_or(thread, |loading| loading.by);
        self.is_ready(thread, by)
    }

    fn is_ready(&mut self, thread: i32, by: i32) -> io::Result<()> {
        let pid = Pid(thread.cast_unsigned());
        self.wait(thread, 0, Answer::Begun { pid, by_other_thread: by != thread })
    }

    /// memtrace is ready for a process.
    pub(super) fn go(&mut self, thread: i32) {
        if let Some(waiting) = self.tree.waiting.remove(&thread) {
            self.leave(thread, waiting.stopped_by);
        }
    }

    /// memtrace is ready for a process, and it is not to be held any longer. One that was let go on meanwhile stays held.
    pub(super) fn part(&mut self, thread: i32) {
        let Some(waiting) = self.tree.waiting.remove(&thread) else { return };
        if waiting.stopped_by != 0 {
            self.leave(thread, waiting.stopped_by);
            return;
        }
        let process = thread.cast_unsigned();
        self.tree.remove(process);
        self.mending.remove(&process);
        self.threads.remove(&thread);
        let _ = request(libc::PTRACE_DETACH, thread, 0);
    }

    /// Lets a process go on from its first stop, unless its own job control has stopped it.
    fn leave(&self, thread: i32, stopped_by: i32) {
        if stopped_by == 0 {
            self.go_on(thread, 0);
        } else {
            let _ = request(libc::PTRACE_LISTEN, thread, 0);
        }
    }

    /// Lets go of everybody who waits, and stops nobody any more.
    pub(super) fn free(&mut self) {
        self.tree.is_free = true;
        self.tree.processes.clear();
        let loading: Vec<i32> = self.tree.loading.drain().map(|(thread, _)| thread).collect();
        loading.into_iter().for_each(|thread| self.go_on(thread, 0));
        for (thread, waiting) in std::mem::take(&mut self.tree.waiting) {
            self.leave(thread, waiting.stopped_by);
        }
        for (thread, early) in std::mem::take(&mut self.tree.early) {
            self.leave(thread, early.signal);
        }
    }

    /// Lets go of those who have waited too long; how long it is until the next of them has.
    pub(super) fn lose_patience(&mut self) -> io::Result<Option<Duration>> {
        let now = Instant::now();
        let is_over = |since: Instant, patience| now.duration_since(since) >= patience;
        let late = self.tree.early.iter().filter(|(_, early)| is_over(early.since, PARENTS_WORD));
        for child in late.map(|(&child, _)| child).collect::<Vec<_>>() {
            if let Some(Early { at_ns, signal, .. }) = self.tree.early.remove(&child) {
                // The parent was killed at this moment, and whoever is its parent now need not be held.
                let follows = self.tree.processes.values().any(|&follow| follow);
                let parent = parent_of(child).unwrap_or(0);
                self.is_born(child, Birth { parent, at_ns, follows, mends: !follows }, signal)?;
            }
        }
        let late = self.tree.waiting.iter().filter(|(_, waiting)| is_over(waiting.since, PATIENCE));
        for thread in late.map(|(&thread, _)| thread).collect::<Vec<_>>() {
            self.go(thread);
            self.tree.is_asleep = true;
            say(Answer::Late(Pid(thread.cast_unsigned())))?;
        }
        let early = self.tree.early.values().map(|early| early.since + PARENTS_WORD);
        let waiting = self.tree.waiting.values().map(|waiting| waiting.since + PATIENCE);
        Ok(early.chain(waiting).min().map(|until| until.saturating_duration_since(now)))
    }
}

/// Whether a loader that makes this system call has mapped all libraries.
///
/// glibc's and musl's set the thread register when they know how much thread-local memory all of them need (glibc's
/// `init_tls`), and tell the kernel of the thread. musl does so before it maps libraries besides itself, which is the C
/// library.
fn has_loaded(number: libc::c_long, first: u64) -> bool {
    #[cfg(target_arch = "x86_64")]
    const ARCH_SET_FS: u64 = 0x1002;
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_arch_prctl {
        return first == ARCH_SET_FS;
    }
    let _ = first;
    [libc::SYS_set_tid_address, libc::SYS_set_robust_list].contains(&number)
}

/// `CLOCK_MONOTONIC`, the clock of events.
fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_is_done_when_it_sets_its_thread_up() {
        assert!(has_loaded(libc::SYS_set_tid_address, 0x7000));
        assert!(!has_loaded(libc::SYS_mmap, 0) && !has_loaded(libc::SYS_openat, 0x1002));
        #[cfg(target_arch = "x86_64")]
        assert!(has_loaded(libc::SYS_arch_prctl, 0x1002) && !has_loaded(libc::SYS_arch_prctl, 0x3001));
    }

    #[test]
    fn nobody_joins_a_tree_that_is_free() {
        let mut helper = Helper::default();
        helper.tree.add(1, true);
        assert_eq!(helper.tree.processes.get(&1), Some(&true));
        helper.free();
        helper.tree.add(2, true);
        assert!(helper.tree.processes.is_empty());
    }
}
