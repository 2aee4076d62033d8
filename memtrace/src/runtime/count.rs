//! What a runtime itself knows of the memory that it manages: for each place in the program how much it holds.

use std::sync::Arc;

use super::Language;

/// What a runtime counts of its memory.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Counted {
    /// Objects of a heap that a garbage collector manages, by where they were allocated.
    Objects,
    /// Goroutines, by what they run and who started them.
    Goroutines,
    /// All that a heap holds; it has no place.
    Heap,
    /// Objects of one type, wherever they were allocated: they have a name and no place.
    Type,
    /// All objects of a heap that can be reached, which a collection would leave; they have neither name nor place.
    Reachable,
}

/// What a census of a process's objects has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// What there is of each type, and of all.
    pub counts: Vec<Count>,
    /// Where the memory outside of the heap is that objects hold which can be reached: addresses, in ascending order. Empty where that is not
    /// told; `None` if it was not looked for.
    pub blocks: Option<Vec<u64>>,
}

/// What one place of a program holds, by the runtime's own books.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// What is counted.
    pub counted: Counted,
    /// The language of the code that made it.
    pub language: Language,
    /// What it is called; `None` for what its place names.
    pub name: Option<Arc<str>>,
    /// The code that is answerable, the innermost function first: addresses in the process, each of one function as it was
    /// written, just behind the instruction that is meant.
    pub place: Arc<[u64]>,
    /// Bytes that are held.
    pub bytes: u64,
    /// Objects that are held.
    pub objects: u64,
    /// Objects that ever were.
    pub ever: u64,
    /// Bytes of all objects that ever were; wraps at 2^64.
    pub ever_bytes: u64,
    /// How well these are known where they are estimates from a sample.
    pub sampled: Option<Sampled>,
    /// What most of them wait for; `None` for what does not wait.
    pub state: Option<State>,
}

impl Count {
    /// All objects of a process together, which have neither name nor place, and are counted.
    pub fn of_all(counted: Counted, language: Language, objects: u64, bytes: u64) -> Self {
        Self {
            counted,
            language,
            name: None,
            place: Arc::default(),
            bytes,
            objects,
            ever: objects,
            ever_bytes: bytes,
            sampled: None,
            state: None,
        }
    }
}

/// How well an estimate from a sample is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampled {
    /// Objects that were drawn and are held.
    pub held: u64,
    /// Objects that were ever drawn.
    pub ever: u64,
    /// The variance of the bytes that are held.
    pub held_variance: f64,
    /// The variance of the bytes of all objects that have come and of all that have gone, less of those that can have changed nothing from one
    /// look to the next.
    pub turnover_variance: f64,
}

/// What goroutines of one place do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// What most of them wait for, in the runtime's words; or `running`, `runnable`, `syscall`.
    pub name: String,
    /// How many do.
    pub count: u64,
    /// How long the one has waited that waits the longest, in milliseconds; `None` where the runtime did not note it.
    pub longest_ms: Option<u64>,
}
