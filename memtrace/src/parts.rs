//! Parts of the rooms that are measured, tested and fuzzed from outside of the library: by the verdict's corpus, the benchmark,
//! the tests on real libraries and the fuzz targets. The program does not need them by these names.

/// Finding allocators and the instructions at which they are probed.
pub mod allocator {
    pub use crate::allocator::{AllocatorError, Ends, Family, Plan, ProbeSite, plan};

    /// The functions of every allocator that is known.
    pub mod catalogue {
        pub use crate::allocator::catalogue::{Function, Role, rust, wanted_symbols};
    }

    /// The instruction at which a function is probed.
    pub mod site {
        pub use crate::allocator::site::{Site, choose};
    }

    /// Caches of threads, by which results of calls are known before they return.
    pub mod thread_cache {
        pub use crate::allocator::thread_cache::{ThreadCache, find};
    }
}

/// What happened in a target, decoded from the kernel's records.
pub mod event {
    pub use crate::event::{Block, Event, What, decode};
}

/// Every live block of the targets, by the events that are told.
pub mod ledger {
    pub use crate::ledger::{Kind, Ledger, ProcessLedger};
}

/// Reading what a process has mapped, and the files there.
pub mod object {
    pub use crate::object::{
        ObjectError, Pid,
        symbols::{ElfFile, Symbol},
    };

    /// The mappings of a process.
    pub mod maps {
        pub use crate::object::maps::read;
    }
}

/// The saved form of a run.
pub mod report {
    pub use crate::report::snapshot::{Snapshot, Stack};
}

/// Reading the tables and the code of an interpreter.
pub mod runtime {
    pub use crate::runtime::python::{
        getter::variable,
        lines::{Form, Lines},
    };

    /// Run-time type information of C++.
    pub mod cpp {
        pub use crate::runtime::cpp::rtti::read_any;
    }

    /// Functions of PHP.
    pub mod php {
        pub use crate::runtime::php::code::read_any;
    }

    /// Code of Ruby.
    pub mod ruby {
        pub use crate::runtime::ruby::code::read_any;
    }

    /// V8's tables.
    pub mod v8 {
        pub use crate::runtime::v8::read_any;
    }
}

/// Processes that are traced.
pub mod target {
    pub use crate::target::{Pid, Target};
}

/// Verdicts on what stacks and groups of stacks hold over time.
pub mod trend {
    pub use crate::trend::{
        Judgement, Observation, Trend, Verdict,
        explain::{Leaf, Node, explain},
        groups::{GroupId, GroupIndex, Groups},
    };
}

/// Tables by which stacks are walked, from call frame information and from code.
pub mod unwind {
    pub use crate::unwind::{Cache, Segment, Table, TableError, segments, table::MAX_ROWS};

    /// Rules that are read from code, where nothing else says how a stack is walked.
    pub mod decode {
        pub use crate::unwind::decode::{Decoded, State, Stretch, Value, decode, decode_with};
    }
}
