//! The stacks of one process, kept as positions in its modules.
//!
//! Frames are normalised when they are observed, while the maps are those that the process ran with; what became of the
//! process later does not matter. Return addresses repeat over stacks: each distinct one is kept once, in 8 bytes (the
//! region and the offset in it), and a stack is a run of 4-byte indices in one shared buffer.
//!
//! Code made at run time gets its name when the stack is observed, too, where the perf map has it by then: the memory
//! is used again for other code, and a name looked up later would be the wrong one. Such a piece of code is a region of
//! its own, so a frame in other code at the same address is another frame. Where there is no name yet it is looked up
//! when a report asks, and the first one found stays. A stack that comes again, through other code at the same addresses,
//! has the same id: it keeps the names that it has.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    rc::Rc,
};

use memtrace_common::{Address, StackId, interpreter::DETAILS, unwind::StackEnd};

use crate::{
    event::StackFrame,
    runtime::{Code, CodeReader},
};

use super::{
    file::Root,
    object::{Module, Object},
    perf_file::{Occasion, PerfFile},
};

/// How much is stored, over all processes, and how much may be.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Frames of stacks, 4 bytes each.
    pub frames: u64,
    /// The bound of that.
    pub max_frames: u64,
    /// Distinct return addresses, about 30 bytes each with their index.
    pub distinct: u64,
    /// The bound of that.
    pub max_distinct: u64,
    /// Names of code made at run time, and what they hang on, in bytes.
    pub code_bytes: u64,
    /// The bound of that.
    pub max_code_bytes: u64,
}

/// What a piece of code with observed frames takes besides its name: its region, and the index to that.
const CODE_REGION_BYTES: u64 = 128;
/// Interpreted code of which nothing is known, or for whose name there is no room. Others have numbers from 1 on.
const NAMELESS: Module = Module::Interpreted { number: 0, code: None };
/// What each different name takes besides its text.
const CODE_NAME_BYTES: u64 = 64;

/// One executable mapping of a process, with the module it is of.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub file_offset: u64,
    pub module: Module,
}

/// At most 4 GiB of addresses in one module, or in none.
#[derive(Clone, Debug)]
struct Region {
    start: u64,
    file_offset: u64,
    module: Module,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Frame {
    region: u32,
    /// Of the last byte of the call instruction: the byte before the return address.
    offset: u32,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    first: u32,
    length: u8,
    end: StackEnd,
    /// Of which of the process's images.
    image: u32,
    /// Whether an address was in no module, and the maps have not been asked for since.
    is_unsettled: bool,
    /// Whether each address stands for one function as it was written.
    is_written: bool,
}

/// What became of an observed stack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was there already.
    Known,
    /// It is stored; whether an address was in no known module.
    Stored { unknown_addresses: bool },
    /// Its id has other frames.
    Collision,
    /// There is no room.
    Full,
}

/// Where in a process and in its files a frame is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The return address, as observed.
    pub address: u64,
    /// The module.
    pub module: Module,
    /// The file offset of the call, for a module that is a file.
    pub file_offset: u64,
}

/// One process: its modules and its stacks.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    /// Its root, where that is not ours.
    pub root: Option<Rc<Root>>,
    /// How often its maps were set.
    pub generation: u32,
    image: u32,
    mappings: Vec<Mapping>,
    regions: Vec<Region>,
    region_index: HashMap<(u64, u64, u64), u32>,
    frames: Vec<Frame>,
    frame_index: HashMap<Frame, u32>,
    words: Vec<u32>,
    stacks: HashMap<StackId, Stored>,
    scratch: Vec<u32>,
    /// The names of its code made at run time, for the present image.
    perf_file: Option<PerfFile>,
    /// The names that observed frames have, with their numbers.
    code_names: HashMap<Rc<str>, u32>,
    /// What of the budget these names and their regions have.
    code_bytes: u64,
    /// What names the code that its interpreter runs.
    reader: Option<CodeReader>,
    /// The code that frames are in, by where the interpreter keeps it: what it was, and its number.
    interpreted: HashMap<u64, (u64, Module)>,
    interpreted_count: u32,
}

impl Process {
    pub fn new(pid: u32, root: Option<Rc<Root>>) -> Self {
        Self {
            pid,
            root,
            generation: 0,
            image: 0,
            mappings: Vec::new(),
            regions: Vec::new(),
            region_index: HashMap::new(),
            frames: Vec::new(),
            frame_index: HashMap::new(),
            words: Vec::new(),
            stacks: HashMap::new(),
            scratch: Vec::new(),
            perf_file: None,
            code_names: HashMap::new(),
            code_bytes: 0,
            reader: None,
            interpreted: HashMap::new(),
            interpreted_count: 0,
        }
    }

    /// What names the code of the process's interpreter from now on.
    pub fn set_reader(&mut self, reader: Option<CodeReader>) {
        self.reader = reader;
    }

    /// What names the code of the process's interpreter.
    pub fn reader_mut(&mut self) -> Option<&mut CodeReader> {
        self.reader.as_mut()
    }

    /// From now on addresses mean another program: after exec.
    pub fn begin_image(&mut self, pid: u32, root: Option<Rc<Root>>) {
        self.pid = pid;
        self.root = root;
        self.image += 1;
        self.reader = None;
        self.interpreted.clear();
    }

    /// Where names of code made at run time are from now on.
    pub fn set_perf_file(&mut self, perf_file: Option<PerfFile>, budget: &mut Budget) {
        if let Some(mut old) = std::mem::replace(&mut self.perf_file, perf_file) {
            old.release(budget);
        }
    }

    /// The file by which a runtime names code that it made, if the process has one.
    pub fn perf_file(&mut self) -> Option<&mut PerfFile> {
        self.perf_file.as_mut()
    }

    /// Replaces the mappings. Stacks that are stored keep the modules they were observed in.
    pub fn set_mappings(&mut self, mut mappings: Vec<Mapping>) {
        mappings.retain(|mapping| mapping.start < mapping.end);
        mappings.sort_by_key(|mapping| mapping.start);
        self.mappings = mappings;
        self.generation += 1;
    }

    /// Gives back to `budget` what this process took.
    pub fn release(&mut self, budget: &mut Budget) {
        self.set_perf_file(None, budget);
        budget.code_bytes -= self.code_bytes;
        budget.frames -= self.words.len() as u64;
        budget.distinct -= self.frames.len() as u64;
    }

    /// Whether frames of the stack are stored.
    pub fn contains(&self, id: StackId) -> bool {
        self.stacks.contains_key(&id)
    }

    /// The files that frames of stored stacks lie in; some more than once.
    pub fn objects(&self) -> impl Iterator<Item = &Rc<Object>> {
        self.regions
            .iter()
            .filter_map(|region| if let Module::File(object) = &region.module { Some(object) } else { None })
    }

    /// Stores a stack, unless it is there.
    pub fn observe(&mut self, id: StackId, frames: &[StackFrame], end: StackEnd, budget: &mut Budget) -> Outcome {
        let Some(stored) = self.stacks.get(&id).copied() else {
            return self.insert(id, frames, end, budget);
        };
        let range = stored.first as usize..stored.first as usize + usize::from(stored.length);
        let same = range.len() == frames.len()
            && self.words[range.clone()].iter().zip(frames).all(|(&index, frame)| self.observed(index) == *frame);
        if !same {
            return Outcome::Collision;
        }
        let is_new_image = stored.image != self.image;
        if !is_new_image && !stored.is_unsettled {
            return Outcome::Known;
        }
        self.begin_stack(Occasion::Stack);
        // In the same image what was known stays: the library may have been closed since.
        let mut unknown_addresses = false;
        for (at, frame) in range.zip(frames) {
            if is_new_image || self.is_unknown(self.words[at]) {
                let Some(frame) = self.normalise(*frame, budget) else { return Outcome::Full };
                self.words[at] = frame;
                unknown_addresses |= self.is_unknown(frame);
            }
        }
        // Asked for once; what is still unknown then stays so.
        let unknown_addresses = unknown_addresses && is_new_image;
        self.stacks.insert(id, Stored { image: self.image, is_unsettled: unknown_addresses, ..stored });
        Outcome::Stored { unknown_addresses }
    }

    fn insert(&mut self, id: StackId, observed: &[StackFrame], end: StackEnd, budget: &mut Budget) -> Outcome {
        let (Ok(length), Ok(first)) = (u8::try_from(observed.len()), u32::try_from(self.words.len())) else {
            return Outcome::Full;
        };
        if budget.frames + u64::from(length) > budget.max_frames {
            return Outcome::Full;
        }
        self.begin_stack(Occasion::Stack);
        let mut frames = std::mem::take(&mut self.scratch);
        frames.clear();
        frames.extend(observed.iter().map_while(|frame| self.normalise(*frame, budget)));
        let is_whole = frames.len() == observed.len();
        let unknown_addresses = frames.iter().any(|&frame| self.is_unknown(frame));
        if is_whole {
            self.words.extend(&frames);
            budget.frames += u64::from(length);
            let is_unsettled = unknown_addresses;
            self.stacks.insert(id, Stored { first, length, end, image: self.image, is_unsettled, is_written: false });
        }
        self.scratch = frames;
        if is_whole { Outcome::Stored { unknown_addresses } } else { Outcome::Full }
    }

    /// Names frames in code made at run time that had no name when they were observed.
    pub fn name_runtime_code(&mut self, id: StackId, budget: &mut Budget) {
        // What the addresses of another image were is not to be known any more.
        let Some(stored) = self.stacks.get(&id).filter(|stored| stored.image == self.image) else { return };
        let first = stored.first as usize;
        let range = first..first + usize::from(stored.length);
        self.begin_stack(Occasion::Report);
        for at in range {
            let (frame, address) = (self.words[at], self.address(self.words[at]));
            if self.module(frame).may_hold_runtime_code()
                && let Some((start, module)) = self.runtime_code(address.wrapping_sub(1), budget)
                && let Some(frame) = self.frame(address.wrapping_sub(1), start, 0, module, budget)
            {
                self.words[at] = frame;
            }
        }
    }

    fn begin_stack(&mut self, occasion: Occasion) {
        if let Some(perf_file) = &mut self.perf_file {
            perf_file.begin_stack(occasion);
        }
    }

    /// Where the frames of a stack are, and how it ends.
    pub fn places(&self, id: StackId) -> Option<(impl Iterator<Item = Place> + '_, StackEnd)> {
        let stored = self.stacks.get(&id)?;
        let first = stored.first as usize;
        let frames = &self.words[first..first + usize::from(stored.length)];
        let places = frames.iter().map(|&frame| {
            let Frame { region, offset } = self.frames[frame as usize];
            let region = &self.regions[region as usize];
            Place {
                address: self.address(frame),
                module: region.module.clone(),
                file_offset: region.file_offset.wrapping_add(offset.into()),
            }
        });
        Some((places, stored.end))
    }

    /// The return addresses of a stack's native frames; none when it is not stored.
    pub fn addresses(&self, id: StackId) -> impl Iterator<Item = Address> + '_ {
        let range = self
            .stacks
            .get(&id)
            .map_or(0..0, |stored| stored.first as usize..stored.first as usize + usize::from(stored.length));
        self.words[range].iter().filter_map(|&frame| match self.observed(frame) {
            StackFrame::Native(address) => Some(address),
            StackFrame::Interpreter { .. } => None,
        })
    }

    /// Each address of a stored stack stands for one function as it was written.
    pub fn set_written(&mut self, id: StackId) {
        if let Some(stored) = self.stacks.get_mut(&id) {
            stored.is_written = true;
        }
    }

    /// Whether each address of a stack stands for one function as it was written.
    pub fn is_written(&self, id: StackId) -> bool {
        self.stacks.get(&id).is_some_and(|stored| stored.is_written)
    }

    /// How a stored stack ends; `None` when it is not stored.
    pub fn end(&self, id: StackId) -> Option<StackEnd> {
        Some(self.stacks.get(&id)?.end)
    }

    /// The frame as it was observed.
    fn observed(&self, frame: u32) -> StackFrame {
        let Frame { region, offset } = self.frames[frame as usize];
        let region = &self.regions[region as usize];
        match region.module {
            Module::Interpreted { .. } => StackFrame::Interpreter { code: region.start, offset },
            _ => StackFrame::Native(Address(self.address(frame))),
        }
    }

    fn address(&self, frame: u32) -> u64 {
        let Frame { region, offset } = self.frames[frame as usize];
        self.regions[region as usize].start.wrapping_add(offset.into()).wrapping_add(1)
    }

    fn is_unknown(&self, frame: u32) -> bool {
        matches!(self.module(frame), Module::Unknown)
    }

    fn module(&self, frame: u32) -> &Module {
        &self.regions[self.frames[frame as usize].region as usize].module
    }

    /// The index of a frame; `None` when there is no room for another.
    fn normalise(&mut self, frame: StackFrame, budget: &mut Budget) -> Option<u32> {
        match frame {
            StackFrame::Native(address) => self.normalise_native(address, budget),
            StackFrame::Interpreter { code, offset } => {
                let module = match self.interpreted(code, budget) {
                    Some(module @ Module::Interpreted { code: None, .. }) => module,
                    // Other code has come in its place since the call.
                    Some(Module::Interpreted { code: Some(code), .. }) if !code.has(offset) => NAMELESS,
                    Some(module) => module,
                    // Without room for the name the frame stays.
                    None => NAMELESS,
                };
                self.frame(code.checked_add(offset.into())?, code, 0, module, budget)
            }
        }
    }

    /// The code that the interpreter keeps at this address, which may be another than the last time; `None` when there is no room
    /// for it.
    fn interpreted(&mut self, address: u64, budget: &mut Budget) -> Option<Module> {
        let reader = self.reader.as_ref();
        // One that cannot be read any more is most likely what it was.
        let identity = reader.and_then(|reader| reader.identity(address));
        if let Some((known, module)) = self.interpreted.get(&address)
            && identity.is_none_or(|identity| identity == *known)
        {
            return Some(module.clone());
        }
        let code = reader.and_then(|reader| reader.read(address)).map(Rc::new);
        self.keep_code(address, identity.unwrap_or(0), code, budget)
    }

    /// Keeps code that the runtime itself has named by an address at which there is nothing.
    pub fn tell_code(&mut self, address: u64, code: impl FnOnce() -> Code, budget: &mut Budget) {
        if !self.interpreted.contains_key(&address) {
            self.keep_code(address, 0, Some(Rc::new(code())), budget);
        }
    }

    /// Keeps code of which a frame ran a copy, unless it is known by the same details.
    pub fn tell_copy(&mut self, address: u64, details: &[u64; DETAILS], budget: &mut Budget) {
        let mut hasher = DefaultHasher::new();
        details.hash(&mut hasher);
        let identity = hasher.finish();
        if self.interpreted.get(&address).is_none_or(|(known, _)| *known != identity) {
            let code = self.reader.as_ref().and_then(|reader| reader.copy(details)).map(Rc::new);
            self.keep_code(address, identity, code, budget);
        }
    }

    /// Keeps code by its address, with what stands for it; `None` when there is no room for it.
    fn keep_code(
        &mut self,
        address: u64,
        identity: u64,
        code: Option<Rc<Code>>,
        budget: &mut Budget,
    ) -> Option<Module> {
        let bytes = code.as_ref().map_or(0, |code| code.bytes()) + CODE_REGION_BYTES;
        if budget.code_bytes + bytes > budget.max_code_bytes {
            return None;
        }
        self.interpreted_count = self.interpreted_count.checked_add(1)?;
        budget.code_bytes += bytes;
        self.code_bytes += bytes;
        let module = Module::Interpreted { number: self.interpreted_count, code };
        self.interpreted.insert(address, (identity, module.clone()));
        Some(module)
    }

    /// The index of the frame that returns to `address`; `None` when there is no room for another.
    fn normalise_native(&mut self, address: Address, budget: &mut Budget) -> Option<u32> {
        // The call is what the frame stands for; a call that never returns can be the last of its function, its section
        // and its mapping.
        let call = address.0.wrapping_sub(1);
        let next = self.mappings.partition_point(|mapping| mapping.start <= call);
        let mapping = self.mappings[..next].last().filter(|mapping| call < mapping.end);
        let (start, file_offset, module) = match mapping {
            Some(mapping) => (mapping.start, mapping.file_offset, mapping.module.clone()),
            None => (0, 0, Module::Unknown),
        };
        if module.may_hold_runtime_code()
            && let Some((start, module)) = self.runtime_code(call, budget)
        {
            return self.frame(call, start, 0, module, budget);
        }
        self.frame(call, start, file_offset, module, budget)
    }

    /// The piece of code made at run time that a call is in: its start and its name. `None` also when there is no room
    /// for the name.
    fn runtime_code(&mut self, call: u64, budget: &mut Budget) -> Option<(u64, Module)> {
        let (start, name) = self.perf_file.as_mut()?.at(call, budget)?;
        let known = self.code_names.get_key_value(name);
        let (name, number, name_bytes) = match known {
            Some((name, &number)) => (Rc::clone(name), number, 0),
            None => {
                let number = u32::try_from(self.code_names.len()).ok()?;
                (Rc::from(name), number, name.len() as u64 + CODE_NAME_BYTES)
            }
        };
        let module = Module::Code { number, name: Rc::clone(&name) };
        let is_new = name_bytes > 0 || !self.region_index.contains_key(&(start, 0, module.id()));
        let bytes = name_bytes + if is_new { CODE_REGION_BYTES } else { 0 };
        if budget.code_bytes + bytes > budget.max_code_bytes {
            return None;
        }
        budget.code_bytes += bytes;
        self.code_bytes += bytes;
        self.code_names.entry(name).or_insert(number);
        Some((start, module))
    }

    /// The index of the frame whose call is in the region that begins at `start`.
    fn frame(&mut self, call: u64, start: u64, file_offset: u64, module: Module, budget: &mut Budget) -> Option<u32> {
        let offset = call - start;
        let whole = offset & !u64::from(u32::MAX);
        let (start, file_offset) = (start + whole, file_offset.wrapping_add(whole));
        let regions = &mut self.regions;
        let region = *self.region_index.entry((start, file_offset, module.id())).or_insert_with(|| {
            regions.push(Region { start, file_offset, module });
            // Each region has a frame, and of those there are fewer than 2^32.
            regions.len() as u32 - 1
        });
        let frame = Frame { region, offset: offset as u32 };
        if let Some(&index) = self.frame_index.get(&frame) {
            return Some(index);
        }
        let index = u32::try_from(self.frames.len()).ok()?;
        if budget.distinct >= budget.max_distinct {
            return None;
        }
        budget.distinct += 1;
        self.frames.push(frame);
        self.frame_index.insert(frame, index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget() -> Budget {
        Budget {
            frames: 0,
            max_frames: 1 << 20,
            distinct: 0,
            max_distinct: 1 << 20,
            code_bytes: 0,
            max_code_bytes: 1 << 20,
        }
    }

    fn mapping(start: u64, end: u64, module: Module) -> Mapping {
        Mapping { start, end, file_offset: 0x1000, module }
    }

    fn process() -> Process {
        let mut process = Process::new(1, None);
        process.set_mappings(vec![
            mapping(0x40_0000, 0x50_0000, Module::Pseudo("[vdso]")),
            mapping(0x7000_0000, 0x7000_0000 + (5 << 32), Module::Pseudo("[anonymous]")),
        ]);
        process
    }

    fn addresses(process: &Process, id: u64) -> Vec<u64> {
        process.places(StackId(id)).expect("a stored stack").0.map(|place| place.address).collect()
    }

    fn native(addresses: &[u64]) -> Vec<StackFrame> {
        addresses.iter().map(|&address| StackFrame::Native(Address(address))).collect()
    }

    #[test]
    fn a_frame_belongs_to_the_module_of_its_call() {
        let (mut process, mut budget) = (process(), budget());
        let frames = [0x40_0001, 0x50_0000, 0x50_0001, 0x7000_0000 + (3 << 32)];
        let outcome = process.observe(StackId(1), &native(&frames), StackEnd::Complete, &mut budget);
        assert_eq!(outcome, Outcome::Stored { unknown_addresses: true });
        let places: Vec<_> = process.places(StackId(1)).expect("a stored stack").0.collect();
        let names: Vec<_> = places.iter().map(|place| place.module.name()).collect();
        assert_eq!(names, [Some("[vdso]"), Some("[vdso]"), None, Some("[anonymous]")]);
        assert_eq!(places[0].file_offset, 0x1000);
        assert_eq!(places[1].file_offset, 0x10_0fff);
        assert_eq!(places[3].file_offset, 0xfff + (3 << 32));
        assert_eq!(addresses(&process, 1), frames);
    }

    #[test]
    fn a_stack_asks_for_the_maps_once() {
        let (mut process, mut budget) = (process(), budget());
        let mut observe =
            |process: &mut Process| process.observe(StackId(1), &native(&[0x60_0010]), StackEnd::Complete, &mut budget);
        assert_eq!(observe(&mut process), Outcome::Stored { unknown_addresses: true });
        process.set_mappings(vec![mapping(0x60_0000, 0x61_0000, Module::Pseudo("[vdso]"))]);
        assert_eq!(observe(&mut process), Outcome::Stored { unknown_addresses: false });
        assert_eq!(observe(&mut process), Outcome::Known);
        process.set_mappings(vec![]);
        assert_eq!(observe(&mut process), Outcome::Known);
        let (mut places, _) = process.places(StackId(1)).expect("a stored stack");
        assert_eq!(places.next().expect("one frame").module.name(), Some("[vdso]"));
    }

    #[test]
    fn after_exec_the_same_addresses_mean_another_program() {
        let (mut process, mut budget) = (process(), budget());
        let frames = native(&[0x40_0010]);
        process.observe(StackId(1), &frames, StackEnd::Complete, &mut budget);
        process.begin_image(1, None);
        process.set_mappings(vec![mapping(0x40_0000, 0x41_0000, Module::Pseudo("[anonymous]"))]);
        let outcome = process.observe(StackId(1), &frames, StackEnd::Complete, &mut budget);
        assert_eq!(outcome, Outcome::Stored { unknown_addresses: false });
        let (mut places, _) = process.places(StackId(1)).expect("a stored stack");
        assert_eq!(places.next().expect("one frame").module.name(), Some("[anonymous]"));
    }

    #[test]
    fn one_id_with_two_stacks_is_a_collision_and_the_first_stays() {
        let (mut process, mut budget) = (process(), budget());
        process.observe(StackId(1), &native(&[0x40_0010]), StackEnd::Complete, &mut budget);
        for other in [&[0x40_0020][..], &[], &[0x40_0010, 0x40_0010]] {
            assert_eq!(
                process.observe(StackId(1), &native(other), StackEnd::Complete, &mut budget),
                Outcome::Collision
            );
        }
        assert_eq!(addresses(&process, 1), [0x40_0010]);
    }

    #[test]
    fn the_budget_bounds_what_is_stored_and_is_given_back() {
        let (mut process, mut budget) = (process(), Budget { max_frames: 5, max_distinct: 2, ..budget() });
        let frames = native(&[0x40_0010, 0x40_0020]);
        let stored = Outcome::Stored { unknown_addresses: false };
        assert_eq!(process.observe(StackId(1), &frames, StackEnd::Complete, &mut budget), stored);
        assert_eq!(process.observe(StackId(2), &frames, StackEnd::Complete, &mut budget), stored);
        assert_eq!(process.observe(StackId(3), &frames, StackEnd::Complete, &mut budget), Outcome::Full);
        assert_eq!(process.observe(StackId(4), &native(&[0x40_0030]), StackEnd::Complete, &mut budget), Outcome::Full);
        assert_eq!((budget.frames, budget.distinct), (4, 2));
        assert!(!process.contains(StackId(3)));
        process.release(&mut budget);
        assert_eq!((budget.frames, budget.distinct), (0, 0));
    }

    proptest! {
        #[test]
        fn every_address_is_given_back_as_it_came(stacks in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..130), 1..20)) {
            let (mut process, mut budget) = (process(), budget());
            for (id, stack) in stacks.iter().enumerate() {
                process.observe(StackId(id as u64), &native(stack), StackEnd::Complete, &mut budget);
            }
            for (id, stack) in stacks.iter().enumerate() {
                prop_assert_eq!(&addresses(&process, id as u64), stack);
            }
        }
    }
}
