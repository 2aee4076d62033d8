//! From the target's mapped files to the sites to probe.

use std::{
    cell::OnceCell,
    collections::HashSet,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use memtrace_common::{
    call::Call,
    prediction::{Prediction, jemalloc, kind},
    signature::Signature,
};
use thiserror::Error;

use super::{
    catalogue::{Family, Function, c, cpp, rust},
    exits::{self, Exit, Linkage},
    go, missing,
    route::{Destinations, Route},
    site,
    source::{self, Source},
    thread_cache::{self, ThreadCache, ThreadPlace},
};
use crate::{
    allocator::wrapper::{Place, Wrapper},
    object::{mapped::MappedObject, symbols::Symbol},
    runtime::python,
};

/// One function to probe, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeSite {
    /// The function's symbol, or what the user named it by.
    pub function: String,
    /// What the function does.
    pub call: Call,
    /// Where it has its arguments.
    pub signature: Signature,
    /// The file, as the target names it: for display.
    pub object_path: PathBuf,
    /// The file, as we open it.
    pub open_path: PathBuf,
    /// Where the breakpoint goes: bytes from the beginning of the file.
    pub file_offset: u64,
    /// Bytes from the function's entry to the breakpoint.
    pub symbol_offset: u64,
    /// The instruction there, in Intel syntax.
    pub instruction: String,
    /// Whether the kernel emulates it: a hit is one trap, otherwise two.
    pub emulated: bool,
    /// Whether the function branches back to its entry, so that one call may count more than once.
    pub reentered: bool,
    /// How the function's result can be told at its entry, where that is known: `malloc` of glibc and of
    /// jemalloc. At most one site has it.
    pub prediction: Option<Prediction>,
}

/// An allocator beside the C library's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundAllocator {
    /// Which.
    pub family: Family,
    /// The file it is in, as the target names it: for display.
    pub object_path: PathBuf,
}

/// A file or a function that should have been used and could not be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unusable {
    /// The function; `None` for the whole file.
    pub function: Option<String>,
    /// The file, as the target names it: for display.
    pub object_path: PathBuf,
    /// Why, in half a sentence.
    pub reason: String,
}

/// What is probed in a target, and what is not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// In the order of the files' mappings, then of the catalogue. Sites of [`Call::Raise`] are there only where another
    /// site's function may throw.
    pub sites: Vec<ProbeSite>,
    /// Allocators beside the C library's.
    pub allocators: Vec<FoundAllocator>,
    /// C's functions that no file in the target has under any name. Some are expected: glibc dropped `cfree` in 2.26, musl
    /// never had `pvalloc`.
    pub absent: Vec<String>,
    /// What should have been probed and cannot be.
    pub unusable: Vec<Unusable>,
    /// Functions of the user's whose files are not mapped, as typed.
    pub pending: Vec<String>,
    /// Whether LeakSanitizer is in one of the files, so that the process must not be held.
    pub looks_for_leaks: bool,
}

/// How the ends of calls are seen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Ends {
    /// By return probes that a program can decline, but for functions that may throw, mapping functions, which signal
    /// handlers call on stacks of their own, and the user's, which may switch stacks: these have probes on their ways out. (A
    /// return probe at a higher address than one that waits ends the target.)
    #[default]
    Sessions,
    /// The same with return probes that cannot be declined; those of the user's functions whose ways out are not known are
    /// refused.
    ReturnProbes,
    /// By probes on every way out: no return probe is used.
    WaysOut,
}

/// Why there is nothing to probe.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AllocatorError {
    /// No file of the target has an allocator.
    #[error("{0}")]
    NotFound(String),
    /// A file has no function of the name that the user gave.
    #[error(
        "{wrapper}: {object} has no such function: looked in its symbol tables, its .gnu_debugdata and its debug file; \
             name it by address as FILE:0xADDRESS, unless it is C++ that may throw"
    )]
    NoFunction {
        /// As typed.
        wrapper: String,
        /// The file.
        object: String,
    },
    /// A function that the user named cannot be probed.
    #[error("{wrapper}: it cannot be probed in {object}: {reason}")]
    Refused {
        /// As typed.
        wrapper: String,
        /// The file.
        object: String,
        /// Why.
        reason: String,
    },
}

/// Plans the probes of a target from the files whose code it has mapped, and the functions that the user named.
///
/// Files that are not ELF (a JIT's, another system's libraries) are passed over. Several allocators in one process are
/// all probed: their addresses differ, and a call inside another is part of it.
///
/// # Errors
///
/// When none of the files has a function to probe, or a function that the user named is not where they said.
pub fn plan(objects: &[MappedObject], wrappers: &[Wrapper], ends: Ends) -> Result<Plan, AllocatorError> {
    let mut plan = Plan::default();
    let executable = executable(objects);
    let mut sources = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        match Source::open(object, Some(index) == executable, wrappers, &mut plan.unusable) {
            Ok(found) => sources.extend(found),
            Err(reason) => {
                plan.unusable.push(Unusable { function: None, object_path: object.path.clone(), reason });
            }
        }
    }
    let known = Known::of(&sources);
    for source in &sources {
        plan_source(&Builder { source, ends, linkage: OnceCell::new() }, &known, &mut plan)?;
    }
    let found = |wrapper: &&Wrapper| {
        let named = |(index, object): (usize, &MappedObject)| {
            source::names(&wrapper.object, &object.path, Some(index) == executable)
        };
        !objects.iter().enumerate().any(named)
    };
    plan.pending = wrappers.iter().filter(found).map(Wrapper::to_string).collect();
    if plan.sites.iter().all(|site| matches!(site.call, Call::Raise | Call::Pool)) {
        return Err(AllocatorError::NotFound(missing::describe(objects, &plan)));
    }
    let libc = |site: &ProbeSite| sources.iter().any(|from| from.role.is_libc && from.open_path == site.open_path);
    keep_one_prediction(&mut plan.sites, libc);
    if !plan.sites.iter().any(|site| site.signature.throws()) {
        plan.sites.retain(|site| site.call != Call::Raise);
    }
    let has = |name: &str| sources.iter().any(|source| source.role.allocates() && source.symbols.contains_key(name));
    let expected = c::HEAP.iter().chain(c::MAPPING).map(|function| function.name);
    plan.looks_for_leaks = sources.iter().any(|source| source.symbols.contains_key(c::LEAK_SANITIZER_MARK));
    plan.absent = expected.filter(|name| !has(name)).map(String::from).collect();
    Ok(plan)
}

/// The kernel side has room for one allocator's caches a process: where there is another one than the C library's, that is
/// who serves the program.
fn keep_one_prediction(sites: &mut [ProbeSite], is_libc: impl Fn(&ProbeSite) -> bool) {
    let known = |site: &&ProbeSite| site.prediction.is_some();
    let other = sites.iter().filter(known).find(|site| !is_libc(site));
    let kept = other.or_else(|| sites.iter().find(known)).and_then(|site| site.prediction);
    sites.iter_mut().filter(|site| site.prediction != kept).for_each(|site| site.prediction = None);
}

/// Which of the files is the program: where `/proc/PID/exe` leads, or else the one that is mapped lowest.
pub(super) fn executable(objects: &[MappedObject]) -> Option<usize> {
    let link = fs::read_link(objects.first()?.pid.proc_path("exe")).unwrap_or_default();
    let path = link.as_os_str().as_bytes();
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    objects.iter().position(|object| object.path.as_os_str().as_bytes() == path).or(Some(0))
}

/// The names of functions that are probed anywhere in the process.
struct Known<'a> {
    heap: HashSet<&'a str>,
    releases: HashSet<&'a str>,
}

impl<'a> Known<'a> {
    fn of(sources: &[Source<'a>]) -> Self {
        // Whoever calls malloc has it from somewhere, even if that file could not be read.
        let heap = c::HEAP.iter().map(|function| function.name).collect();
        let mut known = Self { heap, releases: HashSet::new() };
        for source in sources {
            for function in source.role.functions() {
                if !source.symbols.contains_key(function.name) || function.call.is_mapping() {
                    continue;
                }
                known.heap.insert(function.name);
                if function.call.is_release() {
                    known.releases.insert(function.name);
                }
            }
        }
        known
    }
}

/// Adds what one file has.
fn plan_source(builder: &Builder<'_>, known: &Known<'_>, plan: &mut Plan) -> Result<(), AllocatorError> {
    let source = builder.source;
    let mut addresses = HashSet::new();
    for wrapper in &source.wrappers {
        let symbol = wrapper_symbol(source, wrapper)?;
        if addresses.insert(symbol.address) {
            let sites = builder.build_wrapper(wrapper, &symbol).map_err(|reason| {
                let object = source.object.path.display().to_string();
                AllocatorError::Refused { wrapper: wrapper.to_string(), object, reason }
            })?;
            push(sites, plan);
        }
    }
    let functions = source.role.functions();
    let here: Vec<(&Function, Symbol)> = functions
        .into_iter()
        .filter_map(|function| Some((function, *source.symbols.get(function.name)?)))
        .filter(|(_, symbol)| addresses.insert(symbol.address))
        .collect();
    let of = |wanted: fn(Call) -> bool| -> HashSet<u64> {
        here.iter().filter(|(function, _)| wanted(function.call)).map(|(_, symbol)| symbol.address).collect()
    };
    let destinations = |names, addresses| Destinations::new(&source.elf, names, addresses);
    let releases = destinations(&known.releases, of(Call::is_release));
    let heap = destinations(&known.heap, of(|call| !call.is_mapping()));
    // Without the tables that calls to other files go through, any call may lead anywhere.
    let route = |destinations: &Result<Destinations, _>, address| {
        destinations.as_ref().map_or(Route::Sometimes, |known| known.route(&source.elf, address))
    };
    for &(function, symbol) in &here {
        let is_operator = cpp::OPERATORS.contains(function);
        let call = match function.call {
            // A C library's own calls nothing else, and one that nothing is known of may call anything.
            Call::Release if source.role.is_libc && source.role.families.is_empty() && !is_operator => Call::Release,
            Call::Release if source.role.families.contains(&Family::Unknown) => Call::ReleaseOuter,
            Call::Release => match route(&releases, symbol.address) {
                Route::Own => Call::Release,
                Route::Sometimes => Call::ReleaseOuter,
                Route::Always => continue,
            },
            Call::Allocate if is_operator && route(&heap, symbol.address) == Route::Always => continue,
            call => call,
        };
        builder.add(function, call, &symbol, plan);
    }
    let mut allocators: Vec<Family> = source.role.families.clone();
    for function in rust::FUNCTIONS {
        let Some(symbol) = source.symbols.get(function.name) else { continue };
        // One that leads to no other allocator is an allocator of its own; what it calls besides is part of it.
        if route(&heap, symbol.address) == Route::Own && addresses.insert(symbol.address) {
            let call = if function.call == Call::Release { Call::ReleaseOuter } else { function.call };
            builder.add(function, call, symbol, plan);
            if !allocators.contains(&Family::Rust) {
                allocators.push(Family::Rust);
            }
        }
    }
    for family in allocators {
        plan.allocators.push(FoundAllocator { family, object_path: source.object.path.clone() });
    }
    if source.symbols.contains_key(python::RUNTIME)
        && let Some(symbol) = pools(source)
    {
        let name = python::pool_function::POOL_FUNCTION;
        builder.add(&Function { name, call: Call::Pool, signature: Signature(0) }, Call::Pool, &symbol, plan);
    }
    for &name in cpp::RAISES {
        if let Some(symbol) = source.symbols.get(name).filter(|symbol| addresses.insert(symbol.address)) {
            builder.add(&Function { name, call: Call::Raise, signature: Signature(0) }, Call::Raise, symbol, plan);
        }
    }
    Ok(())
}

/// The function by which CPython makes pools of small blocks ready.
fn pools(source: &Source<'_>) -> Option<Symbol> {
    let mut file = File::open(&source.open_path).ok()?;
    python::pool_function::find(&mut file, &source.elf)
}

fn wrapper_symbol(source: &Source<'_>, wrapper: &Wrapper) -> Result<Symbol, AllocatorError> {
    let object = || source.object.path.display().to_string();
    match &wrapper.place {
        Place::Symbol(name) => source
            .symbols
            .get(name.as_str())
            .copied()
            .ok_or_else(|| AllocatorError::NoFunction { wrapper: wrapper.to_string(), object: object() }),
        &Place::Address(address) => Ok(Symbol { address, size: None, indirect: false }),
        &Place::Offset(offset) => {
            let address = source.elf.address_of(offset).map_err(|error| AllocatorError::Refused {
                wrapper: wrapper.to_string(),
                object: object(),
                reason: error.to_string(),
            })?;
            Ok(Symbol { address, size: None, indirect: false })
        }
    }
}

/// Adds sites; functions that share a way out share its site.
fn push(sites: Vec<ProbeSite>, plan: &mut Plan) {
    for site in sites {
        let is_same = |other: &ProbeSite| {
            other.call == Call::Exit && (&other.open_path, other.file_offset) == (&site.open_path, site.file_offset)
        };
        if site.call != Call::Exit || !plan.sites.iter().any(is_same) {
            plan.sites.push(site);
        }
    }
}

/// Where in jemalloc's table of classes that of [`jemalloc::TELLING_BYTES`] is: one byte for every eight of the size.
const TELLING_CLASS: u64 = jemalloc::TELLING_BYTES.div_ceil(8);

/// `malloc`'s signature.
const PREDICTED: Signature = Signature::size(0);

/// Makes the sites of one file's functions.
struct Builder<'a> {
    source: &'a Source<'a>,
    ends: Ends,
    /// Read when the first function has ways out.
    linkage: OnceCell<Result<Linkage<'a, File>, String>>,
}

impl Builder<'_> {
    /// Adds one function's sites, or why there are none.
    fn add(&self, function: &Function, call: Call, symbol: &Symbol, plan: &mut Plan) {
        match self.build(function.name, call, function.signature, symbol) {
            Ok(sites) => push(sites, plan),
            Err(reason) => plan.unusable.push(Unusable {
                function: Some(function.name.to_owned()),
                object_path: self.source.object.path.clone(),
                reason,
            }),
        }
    }

    /// The sites of a function of the user's. It may switch stacks or throw, so its ways out are probed where they are known.
    fn build_wrapper(&self, wrapper: &Wrapper, symbol: &Symbol) -> Result<Vec<ProbeSite>, String> {
        let Wrapper { text, call, signature, .. } = wrapper;
        if go::is_go(&self.source.elf, symbol.address, source::symbol_of(wrapper)) {
            return Err(
                "it is Go code, which a probe on its return would crash, and which passes arguments in its own way; \
                        see Go's heap with --mode growth"
                    .into(),
            );
        }
        let by_exits =
            self.build(text, *call, if call.needs_return() { signature.with_exits() } else { *signature }, symbol);
        match self.ends {
            Ends::Sessions => by_exits.or_else(|_| self.build(text, *call, *signature, symbol)),
            Ends::ReturnProbes | Ends::WaysOut => by_exits,
        }
    }

    /// The sites of one function, or why there are none: one, and its ways out if it has no return probe.
    fn build(
        &self,
        function: &str,
        call: Call,
        signature: Signature,
        symbol: &Symbol,
    ) -> Result<Vec<ProbeSite>, String> {
        let source = self.source;
        let by_exits = match self.ends {
            Ends::Sessions | Ends::ReturnProbes => call.is_mapping() && call.needs_return(),
            Ends::WaysOut => call.needs_return(),
        };
        let signature = if by_exits { signature.with_exits() } else { signature };
        if symbol.indirect {
            return Err("it is an indirect function, whose implementation is chosen when the program starts".into());
        }
        let code = source.elf.code(symbol).map_err(|error| error.to_string())?;
        let arguments = call.arguments() | signature.arguments();
        let site = site::choose(code, symbol.address, symbol.size, arguments).map_err(|error| error.to_string())?;
        let entry = source.elf.file_offset(symbol.address).map_err(|error| error.to_string())?;
        let entry = ProbeSite {
            function: function.to_owned(),
            call,
            signature,
            object_path: source.object.path.clone(),
            open_path: source.open_path.clone(),
            file_offset: entry.checked_add(site.displacement).ok_or("its offset is beyond the end of any file")?,
            symbol_offset: site.displacement,
            instruction: site.instruction,
            emulated: site.emulated,
            reentered: site.reentered,
            prediction: if signature == PREDICTED { self.prediction(code, symbol) } else { None },
        };
        let mut sites = Vec::new();
        if signature.ends_at_exits() {
            for Exit { address, is_jump } in exits::of(self.linkage()?, symbol)? {
                sites.push(ProbeSite {
                    function: format!("{function} (way out)"),
                    call: Call::Exit,
                    // Where the result is: in the first argument, or in the register for results.
                    signature: if is_jump { Signature::block(0) } else { Signature(0) },
                    file_offset: source.elf.file_offset(address).map_err(|error| error.to_string())?,
                    symbol_offset: address.wrapping_sub(symbol.address),
                    instruction: if is_jump { "jmp" } else { "ret" }.to_owned(),
                    emulated: is_jump,
                    reentered: false,
                    prediction: None,
                    ..entry.clone()
                });
            }
        }
        sites.push(entry);
        Ok(sites)
    }

    /// Where a `malloc` finds what it returns, if that is known.
    fn prediction(&self, code: &[u8], symbol: &Symbol) -> Option<Prediction> {
        let cache = thread_cache::find(code, symbol.address, symbol.size)?;
        let moved = self.source.moved(symbol.address)?;
        let (place, prediction) = match cache {
            ThreadCache::Glibc { pointer, bins } => {
                (pointer, Prediction { kind: kind::GLIBC, bins, ..Prediction::default() })
            }
            ThreadCache::Jemalloc { allocated, bins, classes } => {
                let telling_address = classes.wrapping_add(TELLING_CLASS).wrapping_add(moved);
                (allocated, Prediction { kind: kind::JEMALLOC, bins, telling_address, ..Prediction::default() })
            }
        };
        Some(match place {
            ThreadPlace::Offset(offset) => Prediction { offset: offset.cast_unsigned(), ..prediction },
            ThreadPlace::Slot { slot, plus } => {
                Prediction { offset_address: slot.wrapping_add(moved), offset: plus.cast_unsigned(), ..prediction }
            }
        })
    }

    fn linkage(&self) -> Result<&Linkage<'_, File>, String> {
        self.linkage.get_or_init(|| Linkage::read(&self.source.elf)).as_ref().map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::mapped::own_objects;

    #[test]
    fn our_own_program_is_planned_from_its_libc_alone() {
        let plan = plan(&own_objects(), &[], Ends::Sessions).expect("a glibc program");
        assert!(plan.sites.iter().all(|site| site.object_path.ends_with("libc.so.6")), "{plan:#?}");
        for name in ["malloc", "calloc", "realloc", "free", "mmap", "munmap"] {
            assert_eq!(plan.sites.iter().filter(|site| site.function == name).count(), 1, "{name}");
        }
        assert_eq!((plan.allocators, plan.unusable), (vec![], vec![]));
        let offsets: HashSet<_> = plan.sites.iter().map(|site| site.file_offset).collect();
        assert_eq!(offsets.len(), plan.sites.len(), "two probes at one place");
    }

    #[test]
    fn without_return_probes_every_call_that_ends_has_ways_out() {
        let plan = plan(&own_objects(), &[], Ends::WaysOut).expect("a glibc program");
        assert_eq!(plan.unusable, []);
        for site in plan.sites.iter().filter(|site| site.call != Call::Exit) {
            assert_eq!(site.signature.ends_at_exits(), site.call.needs_return(), "{site:?}");
        }
        // Others share theirs.
        for name in ["malloc", "calloc", "realloc", "mmap", "munmap", "mremap"] {
            let ways_out = format!("{name} (way out)");
            assert!(plan.sites.iter().any(|site| site.function == ways_out && site.call == Call::Exit), "{name}");
        }
    }

    #[test]
    fn without_an_allocator_the_error_says_what_was_looked_for_and_where() {
        let objects: Vec<_> = own_objects().into_iter().filter(|object| !object.path.ends_with("libc.so.6")).collect();
        let error = plan(&objects, &[], Ends::Sessions).expect_err("no libc").to_string();
        assert!(error.contains("/memtrace-") && error.contains("jemalloc") && error.contains("debug file"), "{error}");
        assert!(error.contains("--alloc") && !error.contains('\n'), "{error}");
        assert!(plan(&[], &[], Ends::Sessions).expect_err("nothing").to_string().contains("none with code"));
    }
}
