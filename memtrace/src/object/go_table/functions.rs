//! The list of all functions in Go's table, and how deep each one's stack is.

use super::{Entry, GoTable, MAX_STEPS};

/// A function in Go's table, with the addresses of its code.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// Where its code begins, as linked.
    pub begin: u64,
    /// The address behind its code, padding included.
    pub end: u64,
    entry: Entry,
}

impl GoTable {
    /// All functions in the order of their addresses; in a damaged table as many as can be read, in any order.
    pub fn functions(&self) -> impl Iterator<Item = Listed> + '_ {
        (0..self.functions_in_table()).map_while(|index| {
            let entry = self.entry(index)?;
            Some(Listed { begin: entry.begin, end: self.begin_of(index + 1)?, entry })
        })
    }

    /// Which of these names, each of at most 63 bytes, is the function's.
    pub fn which<'n>(&self, function: &Listed, names: &[&'n str]) -> Option<&'n str> {
        let name = self.number(function.entry.record + 4, 4)?;
        let at = self.names.checked_add(name).filter(|&at| at < self.bytes)?;
        let longest = names.iter().map(|name| name.len() + 1).max()?.min(64);
        let mut bytes = [0; 64];
        let bytes = bytes.get_mut(..longest.min(usize::try_from(self.bytes - at).unwrap_or(longest)))?;
        self.pieces.fill(self.offset + at, bytes)?;
        let own = bytes.split(|&byte| byte == 0).next()?;
        names.iter().find(|name| name.as_bytes() == own).copied()
    }

    /// How many bytes the stack pointer is below the return address from each address of the function on, up to the next one; the last
    /// address, with `None`, is the end of what is known. Of a damaged table what comes before the damage.
    pub fn depths(&self, function: &Listed) -> Vec<(u64, Option<i64>)> {
        let mut found = Vec::new();
        let mut address = function.begin;
        let run = self.number(function.entry.record + 16, 4).filter(|&run| run != 0);
        let Some(mut at) = run.and_then(|run| self.values.checked_add(run)) else { return found };
        let mut depth = -1i64;
        for step in 0..MAX_STEPS {
            let Some(change) = self.varint(&mut at).filter(|&change| change != 0 || step == 0) else { break };
            let Ok(change) = u32::try_from(change) else { break };
            depth += i64::from((change >> 1) as i32 ^ -((change & 1) as i32));
            let next = self.varint(&mut at).and_then(|bytes| address.checked_add(bytes.checked_mul(self.quantum)?));
            let Some(next) = next.filter(|&next| address < next && next <= function.end) else { break };
            found.push((address, Some(depth)));
            address = next;
        }
        found.push((address, None));
        found
    }
}
