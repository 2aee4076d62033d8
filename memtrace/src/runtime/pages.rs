//! The memory of a process, read in large pieces: for structures of which many lie close together.

use std::collections::HashMap;

use super::Memory;

/// Bytes that are read at once.
const PIECE: u64 = 16 << 10;

/// The most pieces that are kept, 64 MiB.
const MAX_PIECES: usize = 4096;

/// What has been read of a process's memory at one moment.
#[derive(Debug)]
pub struct Pages<'a> {
    memory: &'a Memory,
    /// `None` where not all of a piece can be read.
    kept: HashMap<u64, Option<Box<[u8]>>>,
}

impl<'a> Pages<'a> {
    /// The memory of a process, of which nothing has been read yet.
    pub fn of(memory: &'a Memory) -> Self {
        Self { memory, kept: HashMap::new() }
    }

    /// Fills `bytes` from an address on; `None` if not all of it is there.
    pub fn fill(&mut self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let inside = (address % PIECE) as usize;
        if inside + bytes.len() > PIECE as usize {
            return self.memory.fill(address, bytes);
        }
        if self.kept.len() >= MAX_PIECES {
            self.kept.clear();
        }
        let memory = self.memory;
        let piece = self.kept.entry(address / PIECE).or_insert_with(|| {
            let mut piece = vec![0; PIECE as usize];
            memory.fill(address - inside as u64, &mut piece)?;
            Some(piece.into())
        });
        match piece {
            Some(piece) => bytes.copy_from_slice(&piece[inside..inside + bytes.len()]),
            None => memory.fill(address, bytes)?,
        }
        Some(())
    }

    /// The 8-byte word at an address.
    pub fn word(&mut self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.fill(address, &mut bytes)?;
        Some(u64::from_ne_bytes(bytes))
    }

    /// So many 8-byte words from an address on, at most `N`.
    pub fn words<const N: usize>(&mut self, address: u64) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(address.checked_add(8 * index as u64)?)?;
        }
        Some(words)
    }
}
