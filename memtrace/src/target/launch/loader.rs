//! Where a program that has just been started can be stopped with its libraries mapped and none of its code run.

use std::fs;

use crate::object::{Pid, mapped::objects, maps, symbols::ElfFile};

/// Types of the auxiliary vector (getauxval(3)).
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;

/// `r_state` in `struct r_debug` (link.h): behind the version, the list and the address of the breakpoint.
const STATE_OFFSET: u64 = 24;

/// Addresses in the process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Places {
    /// The program's first instruction: the last place to stop, after the libraries' constructors.
    pub(super) entry: u64,
    /// Where the loader says that its list of objects has changed, then the entry.
    stops: Vec<u64>,
    /// The loader's word on whether the list is complete; `None` when it keeps none.
    pub(super) state: Option<u64>,
}

impl Places {
    /// Where to put traps.
    pub(super) fn stops(&self) -> &[u64] {
        &self.stops
    }
}

/// The places in a process that stands at its exec; `None` when it has no loader, so that all is mapped already.
pub(super) fn places(pid: Pid) -> Option<Places> {
    let vector = fs::read(pid.proc_path("auxv")).ok()?;
    let base = auxiliary(&vector, AT_BASE).filter(|&base| base != 0)?;
    let entry = auxiliary(&vector, AT_ENTRY)?;
    let (stop, state) = loader_symbols(pid, base).unwrap_or_default();
    Some(Places { entry, stops: stop.into_iter().chain([entry]).collect(), state })
}

/// Whether a process that stands at its exec has a loader that is yet to map the libraries.
pub fn has_loader(pid: Pid) -> bool {
    fs::read(pid.proc_path("auxv")).is_ok_and(|vector| auxiliary(&vector, AT_BASE).is_some_and(|base| base != 0))
}

/// The value of one type in an auxiliary vector: pairs of words (proc_pid_auxv(5)).
fn auxiliary(vector: &[u8], wanted: u64) -> Option<u64> {
    let mut pairs = vector.chunks_exact(16);
    pairs.find_map(|pair| {
        let (kind, value) = pair.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_ne_bytes);
        (word(kind)? == wanted).then(|| word(value))?
    })
}

/// Where the loader that is mapped at `base` calls out and keeps its state.
fn loader_symbols(pid: Pid, base: u64) -> Option<(Option<u64>, Option<u64>)> {
    let mappings = maps::read(pid).ok()?;
    let loader = mappings.iter().find(|mapping| mapping.start == base)?;
    let object = objects(pid, &mappings).into_iter().find(|object| object.inode == loader.inode)?;
    let file = ElfFile::parse(object.open().ok()?.1).ok()?;
    let symbols = file.symbols(&["_dl_debug_state", "_r_debug"], |name| name).ok()?;
    let address = |name: &str| Some(base.wrapping_add(symbols.get(name)?.address));
    Some((address("_dl_debug_state"), address("_r_debug").map(|debug| debug.wrapping_add(STATE_OFFSET))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_loader_tells_where_to_stop() {
        let places = places(Pid(std::process::id())).expect("we have a loader");
        assert_eq!(places.stops().len(), 2);
        assert!(places.state.is_some() && places.stops().contains(&places.entry));
    }

    #[test]
    fn a_short_vector_has_no_values() {
        assert_eq!(auxiliary(&[7, 0, 0], AT_BASE), None);
        let pair: Vec<u8> = [9u64, 0x1234].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!((auxiliary(&pair, AT_ENTRY), auxiliary(&pair, AT_BASE)), (Some(0x1234), None));
    }
}
