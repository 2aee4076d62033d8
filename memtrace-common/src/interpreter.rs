//! What the kernel side needs to know of an interpreter to walk its frames: where a thread has its innermost frame, and what of a
//! frame leads to the next one. It follows pointers and knows nothing else of a language: user space finds out where they are,
//! and proves it on a live thread, before it writes an [`Interpreter`].
//!
//! A stack has frames of three kinds ([`FrameKind`]). Native ones are return addresses. An interpreter's are two words, the code
//! that is run and where in it. A boundary says that the interpreter's frames before it, up to the boundary before, are run by one
//! native frame: the one that holds the boundary's address on its part of the native stack.
//!
//! Some interpreters keep no chain: each of their frames lies on the native stack, at the frame pointer of the native frame that runs
//! it ([`OnStack`]). These are found while the native stack is walked, and sent as a chain of runs of one frame each.

use crate::{arch::PAGE_BYTES, limits::MAX_FRAMES, stack};

/// The most frames of an interpreter that a stack carries.
pub const MAX_INTERPRETER_FRAMES: usize = 127;

/// The most words of a chain; a power of two, with room for three words a frame. Where a frame may have more, a chain may be cut sooner.
pub const MAX_CHAIN_WORDS: usize = 512;

/// The most words that are read of one frame; a power of two.
pub const MAX_FRAME_WORDS: usize = 16;

/// Words that are read at once where frames lie close together, the callers' below; a power of two. A read costs as much as the
/// copying of some 4 KiB.
pub const FRAMES_WINDOW: usize = 256;

const _: () = assert!(MAX_FRAME_WORDS <= FRAMES_WINDOW);
const _: () = assert!(3 * MAX_INTERPRETER_FRAMES <= MAX_CHAIN_WORDS && MAX_CHAIN_WORDS.is_power_of_two());

/// What a frame of a stack is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum FrameKind {
    /// Of compiled code: a return address.
    Native = 0,
    /// Of interpreted code: the address of the object that holds the code, followed by a word that says where in it.
    Interpreter = 1,
    /// The end of a run of interpreter frames that one native frame runs: an address within that frame, 0 where it is not
    /// known, or [`CUT`].
    Boundary = 2,
    /// What names the frame before, whose code may be gone soon ([`COPY`]): an address of the target's, or a line.
    Detail = 3,
}

/// The address of a boundary behind which frames are missing: the chain was cut at its bound, or could not be read on.
pub const CUT: u64 = 1;

/// Bits of a word that hold its address; the others hold its kind.
const ADDRESS_BITS: u32 = 48;

/// The bit of an address, beyond all of a program's, which says that the frame runs a copy of its code that was made for few calls: the
/// address is that of the instruction, or of the name of a function in C, and [`DETAILS`] words that follow the two of the frame name it.
pub const COPY: u64 = 1 << 47;

/// How many words name a frame that runs a copy of its code: the function's name, its class, its file, and the instruction's line.
pub const DETAILS: usize = 4;

/// The most words that one frame adds to a chain, and the end of one that is cut.
const MOST_WORDS: u64 = (2 + DETAILS + 1) as u64 + 2;

/// A word that carries an address and its kind.
#[inline(always)]
pub const fn pack(kind: FrameKind, address: u64) -> u64 {
    (kind as u64) << ADDRESS_BITS | address & ((1 << ADDRESS_BITS) - 1)
}

/// The kind and the address of a packed word; `None` if there is no such kind.
pub const fn unpack(word: u64) -> Option<(FrameKind, u64)> {
    let kind = match word >> ADDRESS_BITS {
        0 => FrameKind::Native,
        1 => FrameKind::Interpreter,
        2 => FrameKind::Boundary,
        3 => FrameKind::Detail,
        _ => return None,
    };
    Some((kind, word & ((1 << ADDRESS_BITS) - 1)))
}

/// How to get from a thread pointer to a value: the word at the first offset from it, the word at the second offset from that, and
/// so on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Path {
    /// How many offsets are followed; 0 if there is no such path.
    pub count: u64,
    /// The offsets in bytes, as signed numbers.
    pub offsets: [u64; 3],
}

impl Path {
    /// The path over these offsets, at most three.
    pub const fn over(offsets: &[i64]) -> Option<Path> {
        if offsets.len() > 3 {
            return None;
        }
        let mut path = Path { count: offsets.len() as u64, offsets: [0; 3] };
        let mut at = 0;
        while at < offsets.len() {
            path.offsets[at] = offsets[at].cast_unsigned();
            at += 1;
        }
        Some(path)
    }

    /// The value at the end of the path, read by `read`; `None` if there is no path, a word cannot be read, or one on the way is 0.
    #[inline(always)]
    pub fn follow(&self, from: u64, read: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut value = from;
        for (at, offset) in self.offsets.iter().enumerate() {
            if at as u64 >= self.count {
                break;
            }
            if value == 0 {
                return None;
            }
            value = read(value.wrapping_add(*offset))?;
        }
        if self.count == 0 { None } else { Some(value) }
    }
}

/// How a run of interpreter frames that one native frame runs is told.
pub mod entry {
    /// By a frame of its own, which lies on the native stack; its owner byte is [`super::Interpreter::entry_owner`] or more.
    pub const FRAME: u64 = 0;
    /// By the owner byte of its last frame, which is not 0; each run has a record on the native stack.
    pub const FLAG: u64 = 1;
    /// Each frame is a run, and each run has a record on the native stack.
    pub const EACH: u64 = 2;
    /// Each frame is a run, and nothing of it is on the native stack.
    pub const NOWHERE: u64 = 3;
    /// By bits of the owner byte of its last frame, where the interpreter's loop runs that frame's code at all: functions in C have
    /// frames too, which a native frame of their own runs. Nothing of it is on the native stack.
    pub const LOOP: u64 = 4;
    /// Frames lie in an array, each behind the one that it called; the last one stands for nothing. What stands in the place of the owner byte is the address of it; by its
    /// bits, frames in C are told, which are left out, and the last frame of each run, of which nothing is on the native stack.
    pub const ARRAY: u64 = 5;
}

/// Where a target's interpreter frames are: what [`Interpreter::is_known`] says.
pub mod frames {
    /// There are none, or they are not known.
    pub const NONE: u64 = 0;
    /// They are a chain that the interpreter keeps for each thread.
    pub const CHAIN: u64 = 1;
    /// They lie on the native stack (see [`super::OnStack`]).
    pub const ON_STACK: u64 = 2;
}

/// How far below its frame pointer the words of a frame on the native stack begin that are read, in bytes.
pub const ON_STACK_BELOW: u64 = 40;

/// How many words of a frame on the native stack are read. From the lowest one up: where in the instructions the frame is, the
/// instructions, a count, the function, the function's context.
pub const ON_STACK_WORDS: usize = 5;

/// The bit of an instruction word that says that compiled code runs the frame. The bits below it are then the lowest bits of the
/// return address, and else the offset in the interpreter's instructions.
pub const COMPILED: u64 = 1 << 31;

/// How frames are read that lie on the native stack, each at the frame pointer of the native frame that runs it: V8's standard frames
/// (`StandardFrameConstants` in src/execution/frame-constants.h). Pointers to objects end in the bits 01, and the first word of each
/// object is a pointer to its type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct OnStack {
    /// Bytes from the beginning of a function object to the pointer to the object that describes its code.
    pub code: u64,
    /// The type of objects that describe code.
    pub code_type: u64,
    /// The type of objects that hold an interpreter's instructions.
    pub instructions_type: u64,
}

/// A frame that lies on the native stack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameOnStack {
    /// The pointer to the object that describes its code.
    pub code: u64,
    /// Where in the code it is: an offset in the interpreter's instructions, or [`COMPILED`] and part of the return address.
    pub instruction: u64,
}

impl FrameOnStack {
    /// Whether an interpreter runs the frame: then its words decide which frame it is, and not its return address.
    #[inline(always)]
    pub const fn is_interpreted(&self) -> bool {
        self.instruction & COMPILED == 0
    }
}

/// Whether a word is a pointer to an object of V8's.
#[inline(always)]
const fn is_object(word: u64) -> bool {
    word & 3 == 1
}

/// The frame of which these words stand below a frame pointer, in a native frame with this return address; `None` if it is none of the
/// interpreter's. `read` reads a word of the target: three times at most.
#[inline(always)]
pub fn on_stack(
    target: &OnStack,
    words: &[u64; ON_STACK_WORDS],
    ip: u64,
    read: impl Fn(u64) -> Option<u64>,
) -> Option<FrameOnStack> {
    let [offset, instructions, _, function, context] = *words;
    // Frames of the engine's own code have a number in place of the context.
    if !is_object(context) || !is_object(function) {
        return None;
    }
    let code = read((function - 1).wrapping_add(target.code))?;
    if !is_object(code) || read(code - 1)? != target.code_type {
        return None;
    }
    // Small numbers are in the upper half of a word.
    let may_be_interpreted = is_object(instructions) && offset as u32 == 0 && offset >> 63 == 0;
    let instruction = if may_be_interpreted && read(instructions - 1) == Some(target.instructions_type) {
        offset >> 32
    } else {
        COMPILED | ip & (COMPILED - 1)
    };
    Some(FrameOnStack { code, instruction })
}

/// The interpreter of a target: a value of the kernel's `INTERPRETERS` array, which the slot indexes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Interpreter {
    /// One of [`mod@frames`]: whether the target's interpreter frames are walked, and how.
    pub is_known: u64,
    /// The state of the thread in the interpreter where only the process's first thread runs it, and has it at one address; else 0.
    pub only_state: u64,
    /// From the thread pointer to the state of the thread in the interpreter. 0 stands there while it runs other code.
    pub thread_state: Path,
    /// The same by another way, for when the first gives 0.
    pub other_thread_state: Path,
    /// From the thread's state to its innermost frame.
    pub innermost: Path,
    /// The most bytes from a thread's state to a frame that lies in it and ends the chain.
    pub state_bytes: u64,
    /// How many words are read of each frame, at most [`MAX_FRAME_WORDS`].
    pub frame_words: u64,
    /// Which of them is the caller's frame.
    pub previous: u64,
    /// Which of them is the object that holds the code.
    pub code: u64,
    /// The bits of that word that are its address.
    pub code_mask: u64,
    /// Which of them says where in the code the frame is.
    pub instruction: u64,
    /// The bits of that word that say it.
    pub instruction_mask: u64,
    /// Which of them has the owner byte, and how far up it is in bits.
    pub owner: u64,
    /// See `owner`.
    pub owner_shift: u64,
    /// One of [`mod@entry`].
    pub entry: u64,
    /// The smallest owner byte of an entry frame.
    pub entry_owner: u64,
    /// The bits of the owner byte, one of which is set in the last frame of a run ([`entry::LOOP`], [`entry::ARRAY`]).
    pub last_mask: u64,
    /// The bits of the owner byte, one of which is set where the code is a copy that was made for few calls ([`entry::LOOP`], [`COPY`]).
    pub copy_mask: u64,
    /// Where [`DETAILS`] of such a frame stand, in bytes: the first three in its code, the last in its instruction.
    pub copy_details: [u64; DETAILS],
    /// The bits of the first word of code, one of which is set in what the interpreter's loop runs ([`entry::LOOP`]).
    pub loop_mask: u64,
    /// The bits of the owner byte, one of which is set in a frame that is left out ([`entry::ARRAY`]).
    pub left_out_mask: u64,
    /// From a frame in an array to the one behind it: bytes ([`entry::ARRAY`]); else 0.
    pub frame_bytes: u64,
    /// In the thread's state: the address of the memory at whose end the array ends, and how many words that has.
    pub array_begin: u64,
    /// See `array_begin`.
    pub array_words: u64,
    /// From the thread's state to the record of its innermost run on the native stack.
    pub run: Path,
    /// From such a record to the one of the run before: bytes.
    pub run_previous: u64,
    /// How frames on the native stack are read.
    pub on_stack: OnStack,
}

impl Interpreter {
    /// Where the array of frames of a thread with this state ends; 0 if the interpreter has none, or it cannot be read.
    #[inline(always)]
    pub fn array_end(&self, thread_state: u64, read: impl Fn(u64) -> Option<u64>) -> u64 {
        if self.entry != entry::ARRAY {
            return 0;
        }
        let begin = read(thread_state.wrapping_add(self.array_begin)).unwrap_or(0);
        let words = read(thread_state.wrapping_add(self.array_words)).unwrap_or(0);
        begin.wrapping_add(words.wrapping_mul(8))
    }
}

const _: () = assert!(size_of::<Path>() == 32);
const _: () = assert!(size_of::<Interpreter>() == 2 * 8 + 3 * 32 + (18 + DETAILS) * 8 + 32 + 8 + 24);

/// A chain of interpreter frames while it is walked and sent: scratch memory of a processor.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Chain {
    /// Not 0 while a program uses it.
    pub busy: u64,
    /// The target.
    pub slot: u64,
    /// The thread's state in the interpreter.
    pub thread_state: u64,
    /// The frame that is next.
    pub frame: u64,
    /// The frame before it.
    pub last: u64,
    /// The record of the run that is next.
    pub run: u64,
    /// Where the array of frames ends; 0 if they lie in none.
    pub end: u64,
    /// Not 0 while the frame that is next is run by the interpreter's loop for sure, since that has called the one before from it.
    pub is_looped: u64,
    /// The address of the first word that `words` holds; 0 while it holds none.
    pub window: u64,
    /// How many bytes it holds from there on.
    pub window_bytes: u64,
    /// Where in `words` the frame begins that is looked at.
    pub at: u64,
    /// Memory below and at a frame, and in the second half a frame that lies elsewhere.
    pub words: [u64; 2 * FRAMES_WINDOW],
    /// The hash of the words so far.
    pub hash: u64,
    /// What is sent.
    pub record: crate::event::ChainRecord,
    /// How far each native frame is above the first one's stack pointer: words.
    pub depths: [u32; MAX_FRAMES + 1],
    /// The chain's words.
    pub chain: [u64; MAX_CHAIN_WORDS],
}

impl Chain {
    /// A chain that has no words and belongs to nobody.
    pub const fn empty() -> Chain {
        let head = crate::event::Head { kind: 0, count: 0, slot: 0, thread: 0 };
        Chain {
            busy: 0,
            slot: 0,
            thread_state: 0,
            frame: 0,
            last: 0,
            run: 0,
            end: 0,
            is_looped: 0,
            window: 0,
            window_bytes: 0,
            at: 0,
            words: [0; 2 * FRAMES_WINDOW],
            hash: 0,
            record: crate::event::ChainRecord { head, time_ns: 0, id: 0, sp: 0, words: 0 },
            depths: [0; MAX_FRAMES + 1],
            chain: [0; MAX_CHAIN_WORDS],
        }
    }

    /// The words that the chain has so far.
    pub fn sent_words(&self) -> &[u64] {
        self.chain.get(..self.record.words as usize).unwrap_or_default()
    }

    /// Adds a word that tells stacks apart.
    #[inline(always)]
    pub fn push(&mut self, word: u64) {
        self.push_as(word, word);
    }

    /// Adds a word that stands for no other stack.
    #[inline(always)]
    fn push_detail(&mut self, value: u64) {
        let hash = self.hash;
        self.push(pack(FrameKind::Detail, value));
        self.hash = hash;
    }

    /// Adds the boundary of a run. Where on the stack it is follows from the frames.
    #[inline(always)]
    pub fn push_boundary(&mut self, address: u64) {
        self.push_as(pack(FrameKind::Boundary, address), pack(FrameKind::Boundary, 0));
    }

    /// Ends a chain whose frames do not end here.
    #[inline(always)]
    pub fn cut(&mut self) {
        if self.run != 0 {
            self.push_boundary(self.run);
        }
        self.push_as(pack(FrameKind::Boundary, CUT), pack(FrameKind::Boundary, CUT));
    }

    #[inline(always)]
    fn push_as(&mut self, word: u64, told_by: u64) {
        if self.record.words >= MAX_CHAIN_WORDS as u64 {
            return;
        }
        // A number of which the compiler knows nothing: it leaves the mask in place that older verifiers need.
        let at = core::hint::black_box(self.record.words) as usize & (MAX_CHAIN_WORDS - 1);
        if let Some(place) = self.chain.get_mut(at) {
            *place = word;
            self.record.words += 1;
            self.hash = stack::mix(self.hash, told_by);
        }
    }
}

/// Where the words of a frame come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// They are among those that were read.
    Held,
    /// To be read with the memory below them, from this address on, so many bytes, into the first half of [`Chain::words`].
    Window(u64, u64),
    /// To be read alone, into the second half.
    Alone,
}

/// Where the words of the next frame come from, of which `bytes` are wanted; `chain.at` is set for it.
#[inline(always)]
pub fn source(chain: &mut Chain, bytes: u64) -> Source {
    const WINDOW_BYTES: u64 = 8 * FRAMES_WINDOW as u64;
    let inside = chain.frame.wrapping_sub(chain.window);
    if chain.window != 0 && inside & 7 == 0 && inside < chain.window_bytes && inside + bytes <= chain.window_bytes {
        chain.at = inside >> 3;
        return Source::Held;
    }
    // In an array all callers follow.
    let behind = chain.end.wrapping_sub(chain.frame).min(WINDOW_BYTES) & !7;
    if chain.end > chain.frame && behind >= bytes {
        chain.at = 0;
        return Source::Window(chain.frame, behind);
    }
    // Only where the callee's frame was close above are more likely to follow.
    if chain.last.wrapping_sub(chain.frame) < WINDOW_BYTES && chain.frame & 7 == 0 {
        // No further down than to the beginning of the frame's page: what lies below may not be there, and to find that out
        // costs more than many reads.
        let below = (WINDOW_BYTES - bytes).min(chain.frame & (PAGE_BYTES - 1));
        chain.at = below >> 3;
        return Source::Window(chain.frame - below, below + bytes);
    }
    chain.at = FRAMES_WINDOW as u64;
    Source::Alone
}

/// Takes the frame whose words are in `chain.words`, at `chain.frame`, into the chain, and steps to the next one. `read` reads a word of
/// the target. False if the chain ends here.
#[inline(always)]
pub fn step(interpreter: &Interpreter, chain: &mut Chain, read: impl Fn(u64) -> Option<u64>) -> bool {
    let word = |chain: &Chain, at: u64| {
        // A number of which the compiler knows nothing, so that the mask stays, which the verifier needs.
        let place = core::hint::black_box(chain.at.wrapping_add(at)) as usize & (2 * FRAMES_WINDOW - 1);
        chain.words[place]
    };
    let owner = word(chain, interpreter.owner) >> (interpreter.owner_shift & 63) & 0xff;
    let frame = chain.frame;
    chain.last = frame;
    if interpreter.entry == entry::ARRAY {
        let next = frame.wrapping_add(interpreter.frame_bytes);
        chain.frame = if frame < next && next < chain.end { next } else { 0 };
        push_of_array(interpreter, chain, word, read);
        return chain.frame != 0;
    }
    chain.frame = word(chain, interpreter.previous);
    if interpreter.entry == entry::FRAME && owner >= interpreter.entry_owner {
        // The chain may end in a frame that is part of the thread's state and run by nobody.
        if frame.wrapping_sub(chain.thread_state) < interpreter.state_bytes {
            chain.frame = 0;
            return false;
        }
        chain.push_boundary(frame);
        return chain.frame != 0;
    }
    let code = word(chain, interpreter.code) & interpreter.code_mask;
    let instruction = word(chain, interpreter.instruction) & interpreter.instruction_mask;
    if interpreter.entry == entry::LOOP {
        if chain.record.words + MOST_WORDS > MAX_CHAIN_WORDS as u64 {
            return false;
        }
        push_looped(interpreter, chain, owner, code, instruction, read);
        return chain.frame != 0;
    }
    chain.push(pack(FrameKind::Interpreter, code));
    chain.push(pack(FrameKind::Native, instruction));
    let ends_run = match interpreter.entry {
        entry::FLAG => owner != 0,
        entry::EACH => true,
        entry::NOWHERE => {
            chain.push_boundary(0);
            false
        }
        _ => false,
    };
    if ends_run {
        chain.push_boundary(chain.run);
        chain.run =
            if chain.run == 0 { 0 } else { read(chain.run.wrapping_add(interpreter.run_previous)).unwrap_or(0) };
    }
    chain.frame != 0
}

/// Takes a frame of an array into the chain ([`entry::ARRAY`]); `word` gives one of its words.
#[inline(always)]
fn push_of_array(
    interpreter: &Interpreter,
    chain: &mut Chain,
    word: impl Fn(&Chain, u64) -> u64,
    read: impl Fn(u64) -> Option<u64>,
) {
    let code = word(chain, interpreter.code) & interpreter.code_mask;
    // The one below all others holds the variables of the top level, and has called nothing.
    if code == 0 || chain.frame == 0 {
        return;
    }
    let Some(owner) = read(word(chain, interpreter.owner)) else { return };
    let owner = owner >> (interpreter.owner_shift & 63) & 0xff;
    if owner & interpreter.left_out_mask != 0 {
        return;
    }
    let instruction = word(chain, interpreter.instruction) & interpreter.instruction_mask;
    // A frame that is at no instruction holds variables, and runs nothing.
    if instruction == 0 {
        return;
    }
    chain.push(pack(FrameKind::Interpreter, code));
    chain.push(pack(FrameKind::Native, instruction));
    if owner & interpreter.last_mask != 0 {
        chain.push_boundary(0);
    }
}

/// Takes a frame into the chain of an interpreter in which functions in C have frames as well ([`entry::LOOP`]).
#[inline(always)]
fn push_looped(
    interpreter: &Interpreter,
    chain: &mut Chain,
    owner: u64,
    code: u64,
    instruction: u64,
    read: impl Fn(u64) -> Option<u64>,
) {
    // A frame without code stands for another, and runs nothing.
    if code == 0 {
        return;
    }
    // A frame in C can only be the innermost one, or have called one that began a run.
    let is_looped = chain.is_looped != 0 || read(code).is_none_or(|head| head & interpreter.loop_mask != 0);
    // What stands in a frame in C in the place of the instruction is what was there before.
    let instruction = if is_looped { instruction } else { 0 };
    if owner & interpreter.copy_mask != 0 {
        let [name, class, file, line] = interpreter.copy_details;
        let detail = |base: u64, at: u64| read(base.wrapping_add(at)).unwrap_or(0);
        let name = detail(code, name);
        chain.push(pack(FrameKind::Interpreter, COPY | if is_looped { instruction } else { name }));
        chain.push(pack(FrameKind::Native, 0));
        chain.push_detail(name);
        chain.push_detail(detail(code, class));
        chain.push_detail(if is_looped { detail(code, file) } else { 0 });
        chain.push_detail(if is_looped { detail(instruction, line) & u64::from(u32::MAX) } else { 0 });
    } else {
        chain.push(pack(FrameKind::Interpreter, code));
        // The lowest half tells the instructions of a function apart.
        chain.push(pack(FrameKind::Native, instruction & u64::from(u32::MAX)));
    }
    let is_last = owner & interpreter.last_mask != 0;
    if is_looped && is_last {
        chain.push_boundary(0);
    }
    chain.is_looped = u64::from(is_looped && !is_last);
}

#[cfg(test)]
mod tests;
