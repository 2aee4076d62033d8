//! What is in the pages of a process's memory, as far as they are present: those of V8's heaps, of which the latest are kept, and others a piece
//! at a time.

use super::chunks::{CHUNK, Chunk, PAGE};
use crate::runtime::{Memory, memory::word_at};

/// How many pages of a heap are kept at once: 16 MiB.
const CACHED: usize = 64;

/// The contents of some pages, the latest that were read.
#[derive(Default)]
pub struct Cache {
    contents: Vec<(usize, Box<[u8]>)>,
    /// The one that was asked for last.
    last: usize,
    /// The one that was read last of those that took another's place.
    next: usize,
}

impl Cache {
    /// A page is read anew the next time.
    pub fn forget(&mut self, index: usize) {
        if let Some((of, _)) = self.contents.iter_mut().find(|(of, _)| *of == index) {
            *of = usize::MAX;
        }
    }

    /// Where the contents of the first [`CHUNK`] of a page are among those that are kept.
    pub fn get(&mut self, memory: &Memory, index: usize, chunk: &Chunk) -> usize {
        if self.contents.get(self.last).is_some_and(|(of, _)| *of == index) {
            return self.last;
        }
        if let Some(place) = self.contents.iter().position(|(of, _)| *of == index) {
            self.last = place;
            return place;
        }
        let place = if self.contents.len() < CACHED {
            self.contents.push((index, vec![0; CHUNK as usize].into()));
            self.contents.len() - 1
        } else {
            self.next = (self.next + 1) % CACHED;
            self.contents[self.next].0 = index;
            self.next
        };
        fill(memory, chunk, &mut self.contents[place].1);
        self.last = place;
        place
    }

    /// The word so many bytes from the begin of the page whose contents are at this place; `None` if there is none.
    pub fn word(&self, place: usize, at: usize) -> Option<u64> {
        word_at(&self.contents.get(place)?.1, at)
    }
}

/// Reads what is present of the first [`CHUNK`] of a page; the rest is 0.
fn fill(memory: &Memory, chunk: &Chunk, contents: &mut [u8]) {
    contents.fill(0);
    let all = ((chunk.end - chunk.base).min(CHUNK) / PAGE) as usize;
    let is_present = |page: usize| {
        let from = chunk.base + page as u64 * PAGE;
        chunk.is_present(&(from..from + PAGE))
    };
    let mut page = 0;
    while page < all {
        let run = (page..all).take_while(|&page| is_present(page)).count();
        let bytes = page * PAGE as usize..(page + run) * PAGE as usize;
        if run > 0 && memory.fill(chunk.base + page as u64 * PAGE, &mut contents[bytes.clone()]).is_none() {
            contents[bytes].fill(0);
        }
        page += run + 1;
    }
}

/// Calls `found` with the address and the contents of pages at these addresses, as many at once as lie side by side. Those that cannot be
/// read are left out.
pub fn each_piece(memory: &Memory, pages: &[u64], mut found: impl FnMut(u64, &mut [u8])) {
    let mut buffer = vec![0; CHUNK as usize];
    for run in pages.chunk_by(|a, b| a + PAGE == *b) {
        for piece in run.chunks(buffer.len() / PAGE as usize) {
            let bytes = &mut buffer[..piece.len() * PAGE as usize];
            if memory.fill(piece[0], bytes).is_some() {
                found(piece[0], bytes);
            }
        }
    }
}
