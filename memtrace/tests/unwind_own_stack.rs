//! This program's own stacks, walked by its unwind tables, against what the C library's `backtrace` finds: through
//! libc's functions, which have no frame pointers, through signal handlers, and from other threads.

#![expect(clippy::expect_used, reason = "all of this file is tests and their steps")]

use std::{
    arch::asm,
    cell::RefCell,
    ffi::{c_int, c_void},
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt as _,
    ptr,
};

use memtrace::parts::{
    object::{Pid, maps},
    unwind::{Cache, Segment, segments},
};
use memtrace_common::{
    limits::MAX_FRAMES,
    unwind::{Frame, MemoryReader, Registers, Rule, StackEnd, search, step, step_without_table},
};

struct OwnMemory(File);

impl MemoryReader for OwnMemory {
    fn read_word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    fn read_pair(&self, address: u64) -> Option<[u64; 2]> {
        Some([self.read_word(address)?, self.read_word(address.wrapping_add(8))?])
    }
}

/// What one place in the program sees of its stack: return addresses, from the innermost caller out.
#[derive(Debug, Default)]
struct Capture {
    walked: Vec<u64>,
    end: Option<StackEnd>,
    /// What the C library finds.
    expected: Vec<u64>,
}

thread_local! {
    static CAPTURE: RefCell<Capture> = RefCell::default();
}

fn rule(segments: &[Segment], address: u64) -> Option<Rule> {
    let segment = segments.iter().find(|segment| (segment.start..segment.end).contains(&address))?;
    let offset = search::offset(address, segment.base)?;
    let rows = segment.table.rows.len() as u32;
    let packed = search::search(&*segment.table, 0, rows, offset)?;
    Some(Rule::unpack(packed))
}

/// Walks the stack of its caller both ways.
#[inline(never)]
fn capture() {
    let pid = Pid(std::process::id());
    let (segments, _) = segments(pid, &maps::read(pid).expect("our own maps"), &mut Cache::new());
    let memory = OwnMemory(File::open("/proc/self/mem").expect("our own memory"));

    let mut addresses = [ptr::null_mut::<c_void>(); MAX_FRAMES];
    // SAFETY: there is room for so many addresses.
    let found = unsafe { libc::backtrace(addresses.as_mut_ptr(), MAX_FRAMES as c_int) };
    // The first is in this function.
    let expected = addresses[1..found as usize].iter().map(|&address| address as u64).collect();

    let (ip, sp, fp): (u64, u64, u64);
    // SAFETY: reads registers only.
    unsafe {
        asm!("lea {0}, [rip]", "mov {1}, rsp", "mov {2}, rbp", out(reg) ip, out(reg) sp, out(reg) fp, options(nomem));
    }
    let mut frame = Frame::innermost(Registers { ip, sp, fp });
    let mut walked = Vec::new();
    let end = loop {
        let caller = match rule(&segments, frame.lookup_address()) {
            Some(rule) => step(rule, &frame, &memory),
            None => step_without_table(&frame, &memory),
        };
        match caller {
            Ok(caller) => frame = caller,
            Err(end) => break end,
        }
        walked.push(frame.registers.ip);
        assert!(walked.len() < MAX_FRAMES, "the stack does not end");
    };
    CAPTURE.set(Capture { walked, end: Some(end), expected });
}

/// Runs a piece of the program that captures, and compares.
fn compare(minimum: usize, piece: impl FnOnce()) {
    CAPTURE.set(Capture::default());
    piece();
    let Capture { walked, end, expected } = CAPTURE.take();
    assert!(expected.len() >= minimum, "the C library finds only {expected:x?}");
    assert_eq!(walked, expected, "walked (left) and what the C library finds (right)");
    assert_eq!(end, Some(StackEnd::Complete));
}

extern "C" fn capture_once(_: *const c_void, _: *const c_void) -> c_int {
    if CAPTURE.with_borrow(|capture| capture.end.is_none()) {
        capture();
    }
    0
}

extern "C" fn on_signal(_: c_int) {
    capture();
}

/// In a comparison that qsort calls.
fn through_qsort() {
    let mut numbers = [3u64, 1, 2];
    // SAFETY: three elements of eight bytes.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 3, 8, Some(capture_once)) };
    black_box(numbers);
}

fn handle(signal: c_int, flags: c_int) {
    // SAFETY: all zeros is a valid action, and the handler has the type that the flags announce.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

fn raise(signal: c_int) {
    // SAFETY: the signal is handled.
    unsafe { libc::raise(signal) };
}

/// So deep that the frames' sizes differ: arrays on the stack, a frame pointer where the compiler takes one.
#[inline(never)]
fn recurse(depth: usize, then: &dyn Fn()) {
    let mut array = [depth as u8; 300];
    black_box(&mut array[..depth * 7]);
    match depth {
        0 => then(),
        _ => recurse(depth - 1, then),
    }
    black_box(&mut array);
}

/// The stack is aligned to more than 16 bytes, and its frame is found through the frame pointer's.
#[inline(never)]
fn with_aligned_stack(then: &dyn Fn()) {
    #[repr(align(128))]
    struct Aligned([u8; 256]);
    let mut aligned = Aligned([1; 256]);
    black_box(&mut aligned.0);
    then();
    black_box(&mut aligned.0);
}

#[test]
fn plain_calls_are_walked_to_the_threads_start() {
    compare(8, capture);
    compare(38, || recurse(30, &capture));
    compare(9, || with_aligned_stack(&capture));
}

#[test]
fn callbacks_from_the_c_library_are_walked_through_its_frames() {
    compare(9, through_qsort);
    compare(24, || recurse(12, &|| with_aligned_stack(&through_qsort)));
}

#[test]
fn signal_handlers_are_walked_into_what_they_interrupted() {
    handle(libc::SIGUSR1, 0);
    compare(10, || recurse(3, &|| raise(libc::SIGUSR1)));
}

#[test]
fn signal_handlers_on_a_stack_of_their_own_are_walked_back_to_the_threads() {
    handle(libc::SIGUSR2, libc::SA_ONSTACK);
    let own_stack = std::thread::Builder::new().spawn(|| {
        let mut bytes = vec![0u8; 1 << 20];
        let stack = libc::stack_t { ss_sp: bytes.as_mut_ptr().cast(), ss_flags: 0, ss_size: bytes.len() };
        let mut before = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: 0, ss_size: 0 };
        // SAFETY: the bytes live until the stack before is in force again.
        assert_eq!(unsafe { libc::sigaltstack(&stack, &mut before) }, 0);
        compare(10, || recurse(3, &|| raise(libc::SIGUSR2)));
        // SAFETY: as it was.
        assert_eq!(unsafe { libc::sigaltstack(&before, ptr::null_mut()) }, 0);
    });
    own_stack.expect("a thread").join().expect("its comparison");
}
