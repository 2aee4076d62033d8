//! The chain of an interpreter's frames, walked from outside by the very steps that the kernel takes.

use memtrace_common::interpreter::{self, Chain, Interpreter, MAX_FRAME_WORDS, MAX_INTERPRETER_FRAMES};

use super::Memory;

/// The chain of a thread's frames, as the kernel would send it; `None` if a frame cannot be read.
pub fn chain(memory: &Memory, interpreter: &Interpreter, thread_state: u64) -> Option<Vec<u64>> {
    let read = |address: u64| memory.word(address);
    let mut chain = Box::new(Chain::empty());
    chain.thread_state = thread_state;
    chain.frame = interpreter.innermost.follow(thread_state, read).unwrap_or(0);
    chain.end = interpreter.array_end(thread_state, read);
    chain.run = interpreter.run.follow(thread_state, read).unwrap_or(0);
    for _ in 0..MAX_INTERPRETER_FRAMES {
        let words = (interpreter.frame_words as usize).min(MAX_FRAME_WORDS);
        let bytes = memory.at_most(chain.frame, 8 * words as u64, 8 * MAX_FRAME_WORDS as u64)?;
        chain.at = 0;
        for (to, from) in chain.words.iter_mut().zip(bytes.chunks_exact(8)) {
            *to = from.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        }
        if !interpreter::step(interpreter, &mut chain, read) {
            break;
        }
    }
    Some(chain.sent_words().to_vec())
}
