//! C++'s `operator new` and `operator delete`, under their mangled names (Itanium C++ ABI, section 5.1).
//!
//! libstdc++'s and libc++'s call malloc and free, which are probed; an allocator that takes the operators over does the
//! work in them. They are looked for where an allocator is.

use memtrace_common::signature::Signature;

use super::{Function, allocate, release};

/// `m` is `size_t`, `w` and `a` are `new` and `new[]`, `l` and `a` are `delete` and `delete[]`.
pub const OPERATORS: &[Function] = &[
    allocate("_Znwm", Signature::size(0).throwing()),
    allocate("_Znam", Signature::size(0).throwing()),
    allocate("_ZnwmRKSt9nothrow_t", Signature::size(0)),
    allocate("_ZnamRKSt9nothrow_t", Signature::size(0)),
    allocate("_ZnwmSt11align_val_t", Signature::size(0).throwing()),
    allocate("_ZnamSt11align_val_t", Signature::size(0).throwing()),
    allocate("_ZnwmSt11align_val_tRKSt9nothrow_t", Signature::size(0)),
    allocate("_ZnamSt11align_val_tRKSt9nothrow_t", Signature::size(0)),
    // Clang's hints for google/tcmalloc on how long a block lives.
    allocate("_Znwm12__hot_cold_t", Signature::size(0).throwing()),
    allocate("_Znam12__hot_cold_t", Signature::size(0).throwing()),
    allocate("_ZnwmRKSt9nothrow_t12__hot_cold_t", Signature::size(0)),
    allocate("_ZnamRKSt9nothrow_t12__hot_cold_t", Signature::size(0)),
    allocate("_ZnwmSt11align_val_t12__hot_cold_t", Signature::size(0).throwing()),
    allocate("_ZnamSt11align_val_t12__hot_cold_t", Signature::size(0).throwing()),
    allocate("_ZnwmSt11align_val_tRKSt9nothrow_t12__hot_cold_t", Signature::size(0)),
    allocate("_ZnamSt11align_val_tRKSt9nothrow_t12__hot_cold_t", Signature::size(0)),
    release("_ZdlPv"),
    release("_ZdaPv"),
    release("_ZdlPvm"),
    release("_ZdaPvm"),
    release("_ZdlPvRKSt9nothrow_t"),
    release("_ZdaPvRKSt9nothrow_t"),
    release("_ZdlPvSt11align_val_t"),
    release("_ZdaPvSt11align_val_t"),
    release("_ZdlPvmSt11align_val_t"),
    release("_ZdaPvmSt11align_val_t"),
    release("_ZdlPvSt11align_val_tRKSt9nothrow_t"),
    release("_ZdaPvSt11align_val_tRKSt9nothrow_t"),
];

/// What looks for the handler of an exception (Itanium C++ ABI: Exception Handling, section 1.3); in libgcc_s, libunwind,
/// or a static program.
pub const RAISES: &[&str] = &["_Unwind_RaiseException", "_Unwind_Resume_or_Rethrow"];
