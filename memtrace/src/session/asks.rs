//! The targets whose runtimes are asked themselves, with `--ask`: what they say becomes stacks of a kind of their own, and what was done to
//! them is in the report.
//!
//! Each is asked by a thread of its own; nothing waits for an answer but the end of the run, and that not for long.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    time::{Duration, Instant},
};

use memtrace_common::{Slot, StackId, unwind::StackEnd};
use rustix::process::{PidfdFlags, pidfd_open};

use super::{counts::precision, notice};
use crate::{
    event::StackFrame,
    ledger::{Count, Kind, Ledger, StackTotals},
    object::maps::{self, Mapping},
    report::asked::{Asked, Left},
    runtime::{
        self, Code, Language,
        ask::{
            Answerer, Conversation, Inspector, Known, Told,
            profile::{Drawn, Function, Held},
        },
        code::LineTable,
        count::Sampled,
        v8,
    },
    symbol::Symbolizer,
    target::Pid,
};

/// The most targets that are asked at a time: each has a thread.
const MAX_ASKED: usize = 64;

/// How long the end of a run waits for the ends of all conversations.
const ENDED_WITHIN: Duration = Duration::from_secs(4);

/// Where functions are that V8 has named in a profile: at no address that a process can have.
const NAMED: u64 = 0xa5c0_0000_0000_0000;

/// What is asked of all targets.
#[derive(Default)]
pub(super) struct Asks {
    /// How often each target is asked at most; `None` where nothing is to be asked.
    every: Option<Duration>,
    targets: HashMap<Slot, Target>,
    /// Conversations with what targets were before, which are ending.
    ending: Vec<Conversation>,
    known: Known,
    /// Targets of which a profile came when they were asked the last time.
    fresh: HashSet<Slot>,
    has_begun: bool,
}

struct Target {
    pid: Pid,
    answerer: Answerer,
    conversation: Conversation,
    said: Asked,
    /// The last profile, until it is put into the ledger.
    held: Option<Vec<Held>>,
    /// What its objects hold by class, likewise.
    counts: Option<Vec<runtime::count::Count>>,
    /// When this was wished for.
    wished: Instant,
}

impl Asks {
    /// From now on targets that can be asked are, at each of these intervals.
    pub(super) fn begin(&mut self, interval: Duration) {
        // Reports are not due to the millisecond.
        self.every = Some(interval * 9 / 10);
    }

    /// Begins to ask a target if it can be asked.
    pub(super) fn look(&mut self, slot: Slot, pid: Pid, mappings: &[Mapping]) {
        if self.every.is_none() || self.targets.contains_key(&slot) {
            return;
        }
        let Some(answerer) = Answerer::find(pid, mappings, &mut self.known) else { return };
        self.has_begun = true;
        if self.targets.len() >= MAX_ASKED {
            return notice::runtime_refused(pid, &format!("{MAX_ASKED} processes are asked, so it is not."));
        }
        match self.converse(pid, answerer) {
            Ok(Some(conversation)) => {
                let language = match answerer {
                    Answerer::Node => Language::Javascript,
                    Answerer::Jvm => Language::Java,
                };
                let (said, wished) = (Asked { language, ..Asked::default() }, Instant::now());
                self.targets
                    .insert(slot, Target { pid, answerer, conversation, said, held: None, counts: None, wished });
            }
            // It has ended.
            Ok(None) => {}
            Err(error) => notice::runtime_refused(pid, &format!("It cannot be asked: {error}.")),
        }
    }

    /// Begins a conversation with a process; `None` if it is another one by now.
    fn converse(&mut self, pid: Pid, answerer: Answerer) -> io::Result<Option<Conversation>> {
        let id = rustix::process::Pid::from_raw(pid.0.cast_signed()).ok_or(io::ErrorKind::NotFound)?;
        let process = pidfd_open(id, PidfdFlags::empty())?;
        // Now that it is held: whoever has this id is the one that is asked.
        let found = maps::read(pid).ok().and_then(|mappings| Answerer::find(pid, &mappings, &mut self.known));
        (found == Some(answerer)).then(|| Conversation::begin(pid, process, answerer)).transpose()
    }

    /// The target has ended: what its objects held stays what they hold.
    pub(super) fn end_one(&mut self, slot: Slot) {
        if let Some(target) = self.targets.get_mut(&slot) {
            target.conversation.end();
        }
    }

    /// The target's slot is about to be another's, or it runs another program.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.fresh.remove(&slot);
        if let Some(mut target) = self.targets.remove(&slot) {
            target.conversation.end();
            self.ending.retain_mut(|conversation| !conversation.has_ended());
            self.ending.push(target.conversation);
        }
    }

    /// Hears what has been said by now.
    pub(super) fn hear(&mut self) {
        self.targets.values_mut().for_each(Target::hear);
    }

    /// Puts what has been said into the ledger, and wishes for more: a report has what was held at the one before. What objects hold by class
    /// is `counted`.
    pub(super) fn ask(
        &mut self,
        ledger: &mut Ledger,
        symbols: &mut Symbolizer,
        mut counted: impl FnMut(Slot, &[runtime::count::Count], &mut Ledger, &mut Symbolizer),
    ) {
        self.fresh.clear();
        for (&slot, target) in &mut self.targets {
            target.hear();
            if let Some(held) = target.held.take() {
                self.fresh.insert(slot);
                held.iter().for_each(|held| put(slot, held, ledger, symbols));
            }
            if let Some(counts) = target.counts.take() {
                counted(slot, &counts, ledger, symbols);
            }
            if let Some(every) = self.every
                && (target.said.profiles == 0 || target.wished.elapsed() >= every)
            {
                target.conversation.wish();
                target.wished = Instant::now();
            }
        }
    }

    /// Whether what a target's objects hold was told when it was asked for the last time.
    pub(super) fn is_known_now(&self, slot: Slot) -> bool {
        self.fresh.contains(&slot)
    }

    /// Whether a target says which stacks hold its heap, and has not stopped to.
    pub(super) fn has_profile(&self, slot: Slot) -> bool {
        let node = self.targets.get(&slot).filter(|target| target.answerer == Answerer::Node);
        node.is_some_and(|target| target.said.profiles > 0 && target.said.problem.is_none())
    }

    /// What a target was asked; `None` for one that is not asked.
    pub(super) fn said(&self, slot: Slot) -> Option<Asked> {
        self.targets.get(&slot).map(|target| target.said.clone())
    }

    /// Ends all conversations, without waiting for it.
    pub(super) fn end(&mut self) {
        self.targets.values_mut().for_each(|target| target.conversation.end());
        if self.every.take().is_some() && !self.has_begun {
            notice::nothing_to_ask();
        }
    }

    /// Waits for the ends of all conversations, for some seconds at most.
    pub(super) fn wait(&mut self) {
        let until = Instant::now() + ENDED_WITHIN;
        for target in self.targets.values_mut() {
            for told in target.conversation.wait(until) {
                target.take(told);
            }
            if target.answerer == Answerer::Node && target.said.opened && target.said.left.is_none() {
                target.said.left = Some(Left::Open);
            }
            if target.said.left == Some(Left::Open) {
                notice::inspector_is_open(target.pid, target.said.inspector.as_deref().unwrap_or_default());
            }
        }
        self.ending.iter_mut().for_each(|conversation| _ = conversation.wait(until));
    }
}

/// However a run ends, what it opened in targets is closed.
impl Drop for Asks {
    fn drop(&mut self) {
        if self.every.is_some() {
            self.end();
            self.wait();
        }
    }
}

impl Target {
    fn hear(&mut self) {
        while let Some(told) = self.conversation.hear() {
            self.take(told);
        }
    }

    fn answered(&mut self, took: Duration) {
        self.said.profiles += 1;
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.said.longest_ms = self.said.longest_ms.max(took_ms);
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Begun { address, is_ours } => {
                let address = address.to_string();
                notice::asking(self.pid, &address, is_ours);
                (self.said.inspector, self.said.opened) = (Some(address), is_ours);
            }
            Told::Attached { is_ours } => {
                notice::asking_for_classes(self.pid, is_ours);
                self.said.opened = is_ours;
            }
            Told::Profile { held, took } => {
                self.answered(took);
                self.held = Some(held);
            }
            Told::Counts { counts, took } => {
                self.answered(took);
                self.counts = Some(counts);
            }
            Told::Silent(silence) => {
                let why = silence.to_string();
                notice::runtime_refused(self.pid, &why);
                self.said.problem = Some(why);
            }
            Told::Left(inspector) => {
                self.said.left = Some(match inspector {
                    Inspector::AsItWas => Left::AsItWas,
                    Inspector::Closed => Left::Closed,
                    Inspector::Open => Left::Open,
                });
            }
        }
    }
}

/// Puts what one stack holds into the ledger.
fn put(slot: Slot, held: &Held, ledger: &mut Ledger, symbols: &mut Symbolizer) {
    let Held { functions, live, ever } = held;
    let mut hasher = DefaultHasher::new();
    for function in functions.iter() {
        (&function.name, &function.file, function.line).hash(&mut hasher);
    }
    let id = StackId(hasher.finish());
    if !symbols.contains(slot, id) {
        let frames: Vec<StackFrame> = functions
            .iter()
            .map(|function| {
                let address = NAMED + u64::from(function.number);
                symbols.tell_code(slot, address, || code(function));
                StackFrame::Interpreter { code: address, offset: 0 }
            })
            .collect();
        // It is no stack of addresses: none of them is unknown.
        let _ = symbols.observe(slot, id, &frames, StackEnd::Complete);
    }
    ledger.set_count(slot, count(id, live, ever));
}

/// The function as code that an interpreter has.
fn code(function: &Function) -> Code {
    let language = Language::Javascript;
    Code {
        language,
        module: if function.file.is_some() { language.module() } else { v8::heap::BUILT_IN },
        name: function.name.clone(),
        file: function.file.clone(),
        instruction_bytes: 1,
        lines: function.line.map(LineTable::Beginning),
    }
}

fn count(id: StackId, live: &Drawn, ever: &Drawn) -> Count {
    Count {
        totals: StackTotals {
            id,
            kind: Kind::Profiled,
            outstanding_bytes: live.bytes,
            outstanding_blocks: live.objects,
            allocations: ever.objects,
            allocated_bytes: ever.bytes,
            moves: 0,
            moved_bytes: 0,
        },
        precision: Some(precision(Sampled {
            held: live.objects,
            ever: ever.objects,
            held_variance: live.variance,
            turnover_variance: 2.0 * ever.variance - live.variance,
        })),
    }
}
