//! Target addresses -> function, module, file and line, inlined frames.
//!
//! In: the executable mappings of each process and the frames of each stack, as they happen. Out: the frames of the
//! stacks that a report shows, with names, whether or not their process still lives. Addresses are turned into positions
//! in files when a stack is observed ([`process`]); the files are opened while the target lives and kept ([`file`]);
//! names are looked up when a report asks ([`names`]), in the object or in its separate debug file
//! ([`crate::object::debug_file`]), which a server may have where this machine has not ([`crate::debuginfod`]).
//! Code made at run time has the names that the runtime writes into its perf map ([`perf_file`], [`perf_map`]).
//! Names are untrusted: bounded here, escaped by the report.
//!
//! Costs, on 2 cores and hardly optimised: a stack of 40 frames is stored in 10 us. The first 10 stacks of 40 frames
//! take 0.07 s in node (99 MB, symbols only) and 0.5 s in a Rust program with 60 MB of DWARF; again, under 1 ms.

pub mod family;
mod file;
mod names;
mod object;
mod perf_file;
mod perf_map;
mod process;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::PathBuf,
    rc::{Rc, Weak},
    time::Duration,
};

use memtrace_common::{
    Address, Slot, StackId,
    interpreter::{DETAILS, MAX_INTERPRETER_FRAMES},
    limits::MAX_FRAMES,
    unwind::StackEnd,
};

use serde::{Deserialize, Serialize};

use crate::{
    debuginfod::{Answer, Debuginfod},
    event::StackFrame,
    object::{demangle::cut, maps},
    runtime::{Code, CodeReader, Language},
};

pub use crate::object::demangle::MAX_NAME_BYTES;

pub use self::file::{FileError, ModuleMapping};
use self::{
    file::{OpenFiles, Root},
    names::{Function, Names},
    object::{FIRST_OBJECT_ID, Module, Object},
    perf_file::PerfFile,
    process::{Budget, Mapping, Outcome, Place, Process},
};

/// The most frames of a stack, native ones and those of an interpreter.
pub const MAX_STACK_FRAMES: usize = MAX_FRAMES + MAX_INTERPRETER_FRAMES;
const _: () = assert!(MAX_STACK_FRAMES <= u8::MAX as usize);

/// Objects whose parsed symbols and DWARF are kept for the next report.
const MAX_LOADED_OBJECTS: usize = 64;
/// Text of resolved frames kept for the next report.
const MAX_RESOLVED_BYTES: usize = 64 << 20;
/// Modules with problems that are told apart.
const MAX_PROBLEMS: usize = 1024;

/// What bounds and directs a [`Symbolizer`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where separate debug files are searched, below the target's root and below ours.
    pub debug_dirs: Vec<PathBuf>,
    /// The most files of targets that are held open. On top come one directory for each target root that is not ours,
    /// and once a report asks, at most 4 more files for each of up to 64 objects.
    pub open_files: usize,
    /// The most frames of stacks stored over all processes, 4 bytes each.
    pub stored_frames: u64,
    /// The most distinct return addresses stored over all processes, about 30 bytes each.
    pub distinct_frames: u64,
    /// The most memory for names of code made at run time over all processes, in bytes: perf maps as read, and the
    /// names that frames have got from them.
    pub runtime_code_bytes: u64,
}

impl Default for Options {
    /// The system's debug directory, at most 1,024 files and half of the descriptors, 64 MiB of stacks, 256 MiB of
    /// names of code made at run time.
    fn default() -> Self {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = descriptors.map_or(usize::MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX));
        Self {
            debug_dirs: vec![PathBuf::from("/usr/lib/debug")],
            open_files: half.min(1024),
            stored_frames: 16 << 20,
            distinct_frames: 4 << 20,
            runtime_code_bytes: 256 << 20,
        }
    }
}

/// What an observed stack asks of the caller.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "a stack with unknown addresses needs the maps read again"]
pub struct Observed {
    /// An address lies in no known module: [`Symbolizer::refresh`] the process and observe the stack again. A stack asks
    /// once; what is unknown then is code that has gone, or was never a module.
    pub unknown_addresses: bool,
}

/// What runs the code of a frame.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// The processor.
    #[default]
    Native,
    /// An interpreter: the function, file and line are those of its language.
    Interpreter,
}

/// One function of a stack, with all names that could be found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResolvedFrame {
    /// Whether the code is compiled or interpreted.
    pub kind: FrameKind,
    /// The language that the runtime says the code is in; native where none does.
    pub language: Language,
    /// The demangled name, at most [`MAX_NAME_BYTES`]; control characters are not escaped. `None` without a symbol.
    pub function: Option<String>,
    /// The file name of the object; `[jit]` for code made at run time that a perf map names; `[vdso]`, `[anonymous]` and
    /// the like; `None` for an address in no mapping.
    pub module: Option<String>,
    /// The return address, as observed. The call that the names stand for ends just before it. In a frame that a signal
    /// interrupted, the instruction at which it did; the names stand for that one.
    pub address: u64,
    /// The source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// Whether the function was inlined into the next one.
    pub inlined: bool,
    /// Of the call in the module's file; `None` for code that is in no file.
    pub offset: Option<u64>,
}

/// A stack with the names of its functions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResolvedStack {
    /// The caller of the allocator first; inlined functions before the one that they are inlined into.
    pub frames: Vec<ResolvedFrame>,
    /// Why the stack ends before the outermost frame; `None` when it is whole.
    pub truncated: Option<&'static str>,
    /// Whether names of its frames are likely to come soon, from a server that was asked for them.
    pub names_come: bool,
}

/// Something that kept frames of a module from being named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The module's file name.
    pub module: String,
    /// What and why, as first seen. Parts come from the target: control characters are not escaped.
    pub reason: String,
    /// How often anything failed for this module: a file to open, a frame to name.
    pub count: u64,
}

/// How much is kept and what was not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Observed stacks whose id stood for other frames already; the first ones are kept.
    pub collisions: u64,
    /// Observed stacks that were not stored for want of room.
    pub stacks_not_stored: u64,
    /// Stored frames of stacks.
    pub stored_frames: u64,
    /// Distinct return addresses among them.
    pub distinct_frames: u64,
    /// Files of targets held open.
    pub open_files: u64,
    /// Mapped files that were not opened because too many were.
    pub files_not_opened: u64,
    /// Lines of perf maps that name nothing.
    pub perf_map_lines_skipped: u64,
    /// Memory for names of code made at run time, in bytes.
    pub runtime_code_bytes: u64,
}

/// Names the frames of stacks. Not `Send`: one thread of the session owns it.
pub struct Symbolizer {
    options: Options,
    ours: Rc<Root>,
    open_files: OpenFiles,
    processes: HashMap<Slot, Process>,
    /// By device and inode; an object lives while a process or a loaded name table has it.
    objects: HashMap<((u32, u32), u64), Weak<Object>>,
    next_object: u64,
    budget: Budget,
    loaded: Vec<Loaded>,
    clock: u64,
    /// By object, file offset, and whether the frame stands at the very instruction.
    resolved: HashMap<(u64, u64, bool), Resolved>,
    resolved_bytes: usize,
    debuginfod: Option<Debuginfod>,
    problems: BTreeMap<String, Problem>,
    counts: Counts,
}

/// What is known of a frame in a file.
#[derive(Clone, Default)]
struct Resolved {
    /// The innermost first; empty without a name.
    functions: Rc<[Function]>,
    /// Whether a signal handler returns here: then the next frame is the interrupted one.
    is_trampoline: bool,
    /// Whether a server has yet to say whether it has the names.
    is_waiting: bool,
}

/// An object that names were looked up in; without `names` when that is not possible.
struct Loaded {
    object: u64,
    names: Option<Names>,
    /// Whether its file was open when it was loaded.
    was_open: bool,
    last_use: u64,
}

impl Symbolizer {
    /// Nothing known yet.
    ///
    /// # Errors
    ///
    /// When our own root directory cannot be opened.
    pub fn new(options: Options) -> io::Result<Self> {
        Ok(Self {
            ours: Rc::new(Root::ours()?),
            open_files: OpenFiles::new(options.open_files),
            processes: HashMap::new(),
            objects: HashMap::new(),
            next_object: FIRST_OBJECT_ID,
            budget: Budget {
                frames: 0,
                max_frames: options.stored_frames,
                distinct: 0,
                max_distinct: options.distinct_frames,
                code_bytes: 0,
                max_code_bytes: options.runtime_code_bytes,
            },
            loaded: Vec::new(),
            clock: 0,
            resolved: HashMap::new(),
            resolved_bytes: 0,
            debuginfod: None,
            problems: BTreeMap::new(),
            counts: Counts::default(),
            options,
        })
    }

    /// Asks servers from now on for the debug files of files without symbols. Until one has come, its file has no names.
    pub fn ask_servers(&mut self, debuginfod: Debuginfod) {
        self.debuginfod = Some(debuginfod);
    }

    /// Asks for the debug files of all stored stacks that servers may have, and waits for them, at most this long. Where servers
    /// are not asked this does nothing.
    pub fn await_debug_files(&mut self, longest: Duration) {
        if self.debuginfod.is_none() {
            return;
        }
        let mut objects: Vec<Rc<Object>> = Vec::new();
        for object in self.processes.values().flat_map(Process::objects) {
            if objects.len() < MAX_LOADED_OBJECTS && !objects.iter().any(|known| known.id == object.id) {
                objects.push(Rc::clone(object));
            }
        }
        for object in &objects {
            self.load(object);
        }
        if self.debuginfod.as_mut().is_some_and(|debuginfod| debuginfod.wait(longest)) {
            self.forget_nameless();
        }
    }

    /// Forgets what was looked up in files whose debug file may have come since.
    fn forget_nameless(&mut self) {
        self.loaded.retain(|loaded| loaded.names.as_ref().is_none_or(|names| !names.is_waiting()));
        self.resolved.clear();
        self.resolved_bytes = 0;
    }

    /// Takes a process in: process `pid` in `slot`, which maps `mappings` executably now.
    ///
    /// For a slot that is there already this is a new program in it (exec): stacks observed before keep their modules,
    /// and stacks observed again are placed anew. A slot that another process takes over is to be
    /// [removed](Self::remove_process) first.
    ///
    /// Files that cannot be opened become [`problems`](Self::problems).
    pub fn add_process(&mut self, slot: Slot, pid: u32, mappings: impl IntoIterator<Item = ModuleMapping>) {
        let root = self.root_of(pid);
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let perf_file = PerfFile::new(&directory, pid, &self.ours, &self.open_files);
        let process = self.processes.entry(slot).or_insert_with(|| Process::new(pid, None));
        process.begin_image(pid, root);
        process.set_perf_file(perf_file, &mut self.budget);
        self.refresh(slot, mappings);
    }

    /// Takes the present mappings of a process that runs the same program: after `dlopen`, or when
    /// [`Observed::unknown_addresses`] says so. Unknown slots are ignored.
    pub fn refresh(&mut self, slot: Slot, mappings: impl IntoIterator<Item = ModuleMapping>) {
        let Some((pid, root)) = self.processes.get(&slot).map(|process| (process.pid, process.root.clone())) else {
            return;
        };
        let mappings = mappings.into_iter().map(|mapping| self.place(pid, root.as_ref(), mapping)).collect();
        if let Some(process) = self.processes.get_mut(&slot) {
            process.set_mappings(mappings);
        }
    }

    /// What names the code of a process's interpreter from now on, until it runs another program. Without one, as when the process
    /// has ended, code that is known keeps its names.
    pub fn set_reader(&mut self, slot: Slot, reader: Option<CodeReader>) {
        if let Some(process) = self.processes.get_mut(&slot) {
            process.set_reader(reader);
        }
    }

    /// What a process with an interpreter maps from now on.
    pub fn confine_reader(&mut self, slot: Slot, mappings: &[maps::Mapping]) {
        if let Some(reader) = self.processes.get_mut(&slot).and_then(|process| process.reader_mut()) {
            reader.confine(mappings);
        }
    }

    /// Stores a stack of which each address stands for one function as it was written, also where functions were inlined into each
    /// other: as a runtime keeps it that has told them apart. Else as [`observe`](Self::observe).
    pub fn observe_written(&mut self, slot: Slot, id: StackId, addresses: &[u64]) -> Observed {
        let frames: Vec<StackFrame> =
            addresses.iter().take(MAX_STACK_FRAMES).map(|&address| StackFrame::Native(Address(address))).collect();
        let observed = self.observe(slot, id, &frames, StackEnd::Complete);
        if let Some(process) = self.processes.get_mut(&slot) {
            process.set_written(id);
        }
        observed
    }

    /// Tells of code that is at no address and that a runtime itself has named: frames of stacks to come are in it, at `address`, which is that of
    /// nothing in the process. Code that is known there is kept.
    pub fn tell_code(&mut self, slot: Slot, address: u64, code: impl FnOnce() -> Code) {
        if let Some(process) = self.processes.get_mut(&slot) {
            process.tell_code(address, code, &mut self.budget);
        }
    }

    /// Tells of code of which a frame of a stack to come ran a copy, at `address`, with the details by which the interpreter's reader names it.
    pub fn tell_copy(&mut self, slot: Slot, address: u64, details: &[u64; DETAILS]) {
        if let Some(process) = self.processes.get_mut(&slot) {
            process.tell_copy(address, details, &mut self.budget);
        }
    }

    /// How often the mappings of a slot were set; 0 for an unknown slot.
    #[cfg(test)]
    pub fn generation(&self, slot: Slot) -> u32 {
        self.processes.get(&slot).map_or(0, |process| process.generation)
    }

    /// Forgets a process, its stacks, and the files that no other process maps.
    pub fn remove_process(&mut self, slot: Slot) {
        if let Some(mut process) = self.processes.remove(&slot) {
            process.release(&mut self.budget);
            drop(process);
            self.objects.retain(|_, object| object.strong_count() > 0);
        }
    }

    /// Stores the frames of a stack, the caller of the allocator first. A stack that is there is left alone, and costs no
    /// more than the comparison.
    ///
    /// Stacks of unknown slots, of more than [`MAX_STACK_FRAMES`] frames, or beyond the bounds are counted and not stored.
    pub fn observe(&mut self, slot: Slot, id: StackId, frames: &[StackFrame], end: StackEnd) -> Observed {
        let outcome = match self.processes.get_mut(&slot) {
            Some(process) if frames.len() <= MAX_STACK_FRAMES => process.observe(id, frames, end, &mut self.budget),
            _ => Outcome::Full,
        };
        if outcome != Outcome::Known {
            self.note_perf_file(slot);
        }
        match outcome {
            Outcome::Known => Observed::default(),
            Outcome::Stored { unknown_addresses } => Observed { unknown_addresses },
            Outcome::Collision => {
                self.counts.collisions += 1;
                Observed::default()
            }
            Outcome::Full => {
                self.counts.stacks_not_stored += 1;
                Observed::default()
            }
        }
    }

    /// Whether the frames of a stack are stored.
    pub fn contains(&self, slot: Slot, id: StackId) -> bool {
        self.processes.get(&slot).is_some_and(|process| process.contains(id))
    }

    /// The return addresses of a stack, as observed; none when its frames are not stored.
    pub fn addresses(&self, slot: Slot, id: StackId) -> impl Iterator<Item = Address> + '_ {
        self.processes.get(&slot).into_iter().flat_map(move |process| process.addresses(id))
    }

    /// Stands for what the stack's frames are, whatever the addresses: two processes that run the same files have the same
    /// for the same stack. `None` when its frames are not stored.
    pub fn shape(&self, slot: Slot, id: StackId) -> Option<u64> {
        let (places, end) = self.processes.get(&slot)?.places(id)?;
        let mut hasher = DefaultHasher::new();
        (end as u64).hash(&mut hasher);
        for place in places {
            match &place.module {
                Module::Code { name, .. } => (&**name, place.file_offset).hash(&mut hasher),
                Module::Interpreted { code: Some(code), .. } => {
                    (&code.name, &code.file, place.file_offset).hash(&mut hasher);
                }
                module @ Module::Interpreted { code: None, .. } => (module.name(), place.address).hash(&mut hasher),
                // Code without a name and without a file is told from other such code by where it is, as children have it from their
                // parent.
                module if module.may_hold_runtime_code() => (module.name(), place.address).hash(&mut hasher),
                module => (module.name(), place.file_offset).hash(&mut hasher),
            }
        }
        Some(hasher.finish())
    }

    /// How a stack ends; `None` when its frames are not stored.
    pub fn end(&self, slot: Slot, id: StackId) -> Option<StackEnd> {
        self.processes.get(&slot)?.end(id)
    }

    /// The frames of a stack with names. The first call for an object reads its symbols; later ones look up.
    pub fn frames(&mut self, slot: Slot, id: StackId) -> ResolvedStack {
        if self.debuginfod.as_mut().is_some_and(Debuginfod::take_answers) {
            self.forget_nameless();
        }
        if let Some(process) = self.processes.get_mut(&slot) {
            process.name_runtime_code(id, &mut self.budget);
            self.note_perf_file(slot);
        }
        let stack = self.processes.get(&slot).and_then(|process| process.places(id));
        let Some((places, end)) = stack.map(|(places, end)| (places.collect::<Vec<_>>(), end)) else {
            let truncated = Some("its frames were not stored");
            return ResolvedStack { truncated, ..ResolvedStack::default() };
        };
        let is_written = self.processes.get(&slot).is_some_and(|process| process.is_written(id));
        let mut frames = Vec::with_capacity(places.len());
        let (mut interrupted, mut waits) = (false, false);
        for Place { address, module, file_offset } in places {
            let Resolved { functions, is_trampoline, is_waiting } = match &module {
                Module::File(object) => self.resolve(object, file_offset, interrupted),
                Module::Code { name, .. } => {
                    let language = Language::of_runtime_code(name);
                    let function = Function { name: Some(name.to_string()), language, ..Function::default() };
                    Resolved { functions: Rc::new([function]), ..Resolved::default() }
                }
                Module::Interpreted { code: Some(code), .. } => {
                    let line = u32::try_from(file_offset).ok().and_then(|offset| code.line(offset));
                    let name = Some(cut(&code.name, MAX_NAME_BYTES));
                    let file = code.file.clone();
                    let function = Function { name, file, line, language: code.language, inlined: false };
                    Resolved { functions: Rc::new([function]), ..Resolved::default() }
                }
                _ => Resolved::default(),
            };
            interrupted = is_trampoline;
            waits |= is_waiting;
            let offset = matches!(module, Module::File(_)).then_some(file_offset);
            let kind = match module {
                Module::Interpreted { .. } => FrameKind::Interpreter,
                _ => FrameKind::Native,
            };
            let module = module.name();
            let frame = |function: &Function| ResolvedFrame {
                kind,
                language: function.language,
                function: function.name.clone(),
                module: module.map(str::to_owned),
                address,
                file: function.file.clone(),
                line: function.line,
                inlined: function.inlined,
                offset,
            };
            if functions.is_empty() {
                frames.push(frame(&Function::default()));
            }
            match functions.first().filter(|_| is_written) {
                Some(written) => frames.push(ResolvedFrame { inlined: false, ..frame(written) }),
                None => frames.extend(functions.iter().map(frame)),
            }
        }
        let names_come = waits && self.debuginfod.as_ref().is_some_and(Debuginfod::is_soon);
        ResolvedStack { frames, truncated: end.short().map(|short| short.sentence), names_come }
    }

    /// What kept frames from being named, a module each.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values()
    }

    /// The file names and build ids, in hexadecimal, of the modules that names were looked up in of late. Two files may have
    /// the same name.
    pub fn build_ids(&self) -> impl Iterator<Item = (&str, String)> {
        self.loaded.iter().filter_map(|loaded| loaded.names.as_ref()?.build_id())
    }

    /// How much is kept and what was not.
    pub fn counts(&self) -> Counts {
        Counts {
            stored_frames: self.budget.frames,
            distinct_frames: self.budget.distinct,
            open_files: self.open_files.open() as u64,
            runtime_code_bytes: self.budget.code_bytes,
            ..self.counts
        }
    }

    /// Takes over what was in the way of a perf map.
    fn note_perf_file(&mut self, slot: Slot) {
        let Some(perf_file) = self.processes.get_mut(&slot).and_then(Process::perf_file) else { return };
        self.counts.perf_map_lines_skipped += perf_file.take_skipped_lines();
        if let Some((file, reasons)) = perf_file.take_problems() {
            reasons.into_iter().for_each(|reason| note(&mut self.problems, &file, reason));
        }
    }

    /// The root of a process, where that is another than ours.
    fn root_of(&self, pid: u32) -> Option<Rc<Root>> {
        // One that has gone has none; its files may still be found by our root.
        let root = Root::of_process(pid).ok()?;
        if root.is_same(&self.ours) {
            return None;
        }
        let known = self.processes.values().filter_map(|process| process.root.as_ref());
        Some(known.into_iter().find(|known| known.is_same(&root)).map_or_else(|| Rc::new(root), Rc::clone))
    }

    fn place(&mut self, pid: u32, root: Option<&Rc<Root>>, mapping: ModuleMapping) -> Mapping {
        let module = if mapping.inode == 0 {
            Module::without_file(mapping.path.as_deref())
        } else {
            Module::File(self.object(pid, root, &mapping))
        };
        Mapping { start: mapping.start, end: mapping.end, file_offset: mapping.file_offset, module }
    }

    /// The object that a mapping maps, opened if that is possible.
    fn object(&mut self, pid: u32, root: Option<&Rc<Root>>, mapping: &ModuleMapping) -> Rc<Object> {
        let key = (mapping.device, mapping.inode);
        let known = self.objects.get(&key).and_then(Weak::upgrade);
        // An open file keeps its inode; that of another may have gone to a new file.
        let known = known.filter(|known| known.file.get().is_some() || known.mapping.path == mapping.path);
        let object = known.unwrap_or_else(|| {
            let object = Rc::new(Object::new(self.next_object, pid, mapping, root.cloned()));
            self.next_object += 1;
            self.objects.insert(key, Rc::downgrade(&object));
            object
        });
        if object.file.get().is_some() {
            return object;
        }
        let opened = match self.open_files.permit() {
            Some(permit) => {
                file::open_mapped(pid, mapping, &self.ours).map(|file| (file, permit)).map_err(FileError::from)
            }
            None => {
                self.counts.files_not_opened += 1;
                Err(FileError::TooMany { path: object.path().to_owned(), limit: self.open_files.limit() })
            }
        };
        match opened {
            // It was empty when asked above.
            Ok(opened) => _ = object.file.set(opened),
            Err(error) => note(&mut self.problems, &object.name, error.to_string()),
        }
        object
    }

    /// What is at an offset of an object, where a call ends; with `interrupted`, where a signal came instead of a call,
    /// just behind it. That instruction may be its function's first, and the byte before it another function's.
    fn resolve(&mut self, object: &Rc<Object>, file_offset: u64, interrupted: bool) -> Resolved {
        let key = (object.id, file_offset, interrupted);
        if let Some(resolved) = self.resolved.get(&key) {
            return resolved.clone();
        }
        let loaded = self.load(object);
        self.clock += 1;
        self.loaded[loaded].last_use = self.clock;
        let problems = &mut self.problems;
        let Some(names) = &mut self.loaded[loaded].names else {
            count(problems, &object.name);
            return Resolved::default();
        };
        let next = file_offset.wrapping_add(1);
        // No call leads to a trampoline: it begins where the handler returns to.
        let is_trampoline = names.is_trampoline(next);
        let at = if interrupted || is_trampoline { next } else { file_offset };
        let functions: Rc<[Function]> = names.functions(at, |reason| note(problems, &object.name, reason)).into();
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let bytes =
            functions.iter().map(|function| 64 + text(&function.name) + text(&function.file)).sum::<usize>() + 64;
        // Frames of the stacks on show come back with the next report; forgetting all now and then is enough.
        if self.resolved_bytes + bytes > MAX_RESOLVED_BYTES {
            self.resolved.clear();
            self.resolved_bytes = 0;
        }
        self.resolved_bytes += bytes;
        let resolved = Resolved { functions, is_trampoline, is_waiting: names.is_waiting() };
        self.resolved.insert(key, resolved.clone());
        resolved
    }

    /// The index of an object among the loaded ones.
    fn load(&mut self, object: &Rc<Object>) -> usize {
        // One that could not be opened before may have been since.
        let is_open = object.file.get().is_some();
        if let Some(index) = self.loaded.iter().position(|loaded| loaded.object == object.id) {
            if self.loaded[index].names.is_some() || self.loaded[index].was_open == is_open {
                return index;
            }
            self.loaded.swap_remove(index);
        }
        if self.loaded.len() >= MAX_LOADED_OBJECTS
            && let Some(oldest) = (0..self.loaded.len()).min_by_key(|&index| self.loaded[index].last_use)
        {
            self.loaded.swap_remove(oldest);
        }
        let problems = &mut self.problems;
        let mut problem = |reason| note(problems, &object.name, reason);
        let ask = |build_id: &[u8]| match &mut self.debuginfod {
            Some(debuginfod) => debuginfod.ask(build_id, &object.name),
            None => Answer::Missing,
        };
        let names = Names::open(object, &self.ours, &self.options.debug_dirs, ask, &mut problem);
        let names = names.map_err(&mut problem).ok();
        self.loaded.push(Loaded { object: object.id, names, was_open: is_open, last_use: 0 });
        self.loaded.len() - 1
    }
}

/// Counts a failure of a module, and keeps the first reason.
fn note(problems: &mut BTreeMap<String, Problem>, module: &str, reason: String) {
    if let Some(problem) = problems.get_mut(module) {
        problem.count += 1;
    } else if problems.len() < MAX_PROBLEMS {
        problems.insert(module.to_owned(), Problem { module: module.to_owned(), reason, count: 1 });
    }
}

fn count(problems: &mut BTreeMap<String, Problem>, module: &str) {
    if let Some(problem) = problems.get_mut(module) {
        problem.count += 1;
    }
}
