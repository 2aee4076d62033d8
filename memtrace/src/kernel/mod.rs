//! The `kernel` room: the only one that speaks bpf(2).
//!
//! In: probe sites and the processes they belong to. Out: decoded events in their order, blocks that had to
//! wait in the kernel, and counters. [`features`] says whether it can run here, [`return_probes`]
//! whether it may in a confined process; [`Tracer`] loads the programs; [`links`]
//! attaches and detaches them; [`ring`] drains; [`deferred`] fetches what waited;
//! [`tables`] gives the programs what they unwind by, [`sampler`] what they leave out.

mod btf;
pub mod deferred;
mod error;
pub mod features;
pub mod interpreters;
pub mod links;
mod log;
mod mapped;
mod multi;
pub mod return_probes;
pub mod ring;
pub mod sampler;
mod shared;
pub mod tables;
mod tracer;

pub use error::KernelError;
pub use tracer::{Loaded, Options, Preparation, RememberedCounts, Tracer};

/// The compiled BPF programs (see docs/design/bpf-object.md for how they are built and checked).
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../memtrace-ebpf/object/memtrace.o"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use object::{Object as _, ObjectSymbol as _, SymbolKind};

    /// The names in the first cells of the page's tables.
    fn documented() -> BTreeSet<String> {
        let page = include_str!("../../../docs/design/maps.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        rows.map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn the_page_of_maps_and_globals_names_all_that_the_object_has() {
        let object = object::File::parse(super::OBJECT).unwrap();
        let data = object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Data);
        // What the compiler names itself is constants of functions.
        let names = data.filter_map(|symbol| symbol.name().ok()).filter(|name| !name.starts_with("anon."));
        let found: BTreeSet<String> = names.map(str::to_owned).collect();
        assert_eq!(found, documented());
    }
}
