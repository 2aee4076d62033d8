//! What the names of functions, modules and source files tell of what they are for.

use std::borrow::Cow;

use crate::{runtime, symbol::family::family};

/// Libraries that every program has, or that only allocate, by how their file names begin.
const SYSTEM_MODULES: [&str; 26] = [
    "libc.so",
    "libc-",
    "libc.musl",
    "ld-linux",
    "ld-musl",
    "ld-",
    "ld.so",
    "libpthread",
    "libdl.",
    "librt.",
    "libm.so",
    "libgcc_s",
    "libstdc++",
    "libc++",
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
    "libsnmalloc",
    "libhoard",
    "libasan",
    "libtsan",
    "liblsan",
    "libefence",
    "libdmalloc",
    "[vdso]",
    "linux-vdso",
];

/// Interpreters and virtual machines, by how their file names begin; a version follows, or nothing.
const RUNTIME_MODULES: [&str; 19] = [
    "libpython",
    "python",
    "libnode",
    "nodejs",
    "node",
    "libuv",
    "libv8",
    "deno",
    "bun",
    "libruby",
    "ruby",
    "libperl",
    "perl",
    "libphp",
    "php",
    "libjvm",
    "libguile",
    "guile",
    "liblua",
];

/// How functions of such runtimes begin where these are linked into a program.
const RUNTIME_FUNCTIONS: [&str; 15] = [
    "uv_",
    "uv__",
    "v8::",
    "node::",
    "_PyEval_",
    "PyEval_",
    "_PyObject_",
    "PyObject_",
    "PyMem_",
    "_PyMem_",
    "_PyList_",
    "runtime.",
    "lua_",
    "luaV_",
    "luaD_",
];

/// How a program and its threads begin, and what the C library calls its own functions.
const SYSTEM_FUNCTIONS: [&str; 12] = [
    "_start",
    "__libc_",
    "_dl_",
    "__GI_",
    "_IO_",
    "start_thread",
    "clone3",
    "__clone",
    "__pthread_",
    "__restore_rt",
    "dl_open",
    "call_init",
];

/// Where the C library's own sources lie, as its debug information has it.
const SYSTEM_FILES: [&str; 8] =
    ["./csu/", "../csu/", "../sysdeps/", "./sysdeps/", "./nptl/", "./malloc/", "./libio/", "./elf/"];

/// How functions begin that make room for others: operators, containers, and allocating parts of standard libraries.
const WRAPPER_PREFIXES: [&str; 27] = [
    "operator new",
    "std::",
    "__gnu_cxx::",
    "boost::container::",
    "boost::alignment::",
    "absl::container_internal::",
    "folly::detail::",
    "duckdb::Allocator::",
    "QArrayData::",
    "QTypedArrayData",
    "alloc::",
    "core::",
    "hashbrown::",
    "smallvec::",
    "bytes::bytes_mut",
    "<alloc::",
    "<core::",
    "<std::",
    "<hashbrown::",
    "<smallvec::",
    "<T as ",
    "__rust_",
    "__rdl_",
    "__rg_",
    "__rustc",
    "g_slice_",
    "g_memdup",
];

/// Parts of names that only functions have which allocate for others.
const STRONG: [&str; 12] = [
    "malloc", "calloc", "realloc", "memalign", "strdup", "strndup", "memdup", "wcsdup", "asprintf", "zalloc", "palloc",
    "ckalloc",
];

/// Words that make `leak_malloc` or `test_realloc` somebody's own function.
const PURPOSES: [&str; 8] = ["leak", "leaks", "leaky", "test", "bench", "grow", "main", "demo"];

/// The last words of names that are those of wrappers if nothing but [`GENERAL`] words stand before them.
const WEAK: [&str; 8] = ["alloc", "allocate", "new", "getmem", "getdelim", "getline", "dup", "halloc"];

/// Words that say how something is allocated rather than what.
const GENERAL: [&str; 44] = [
    "x", "e", "z", "s", "g", "n", "ck", "my", "safe", "safely", "checked", "check", "must", "mem", "memory", "heap",
    "context", "try", "do", "or", "die", "fail", "abort", "raw", "zero", "zeroed", "sys", "system", "default",
    "internal", "aligned", "util", "utils", "lib", "ngx", "apr", "av", "set", "array", "cz", "l", "je", "mi", "tc",
];

/// Whether a module stands for the functions that are part of a language itself: `Array.prototype.sort` of JavaScript, `array_map` of PHP.
pub fn is_built_in(module: &str) -> bool {
    [runtime::v8::heap::BUILT_IN, runtime::php::code::BUILT_IN].contains(&module)
}

/// Whether a module is one of every program, or an allocator.
pub fn is_system_module(module: &str) -> bool {
    starts_with_any(module, &SYSTEM_MODULES)
}

/// Whether a module is the compiled part of a package of Python's, which is not called by its name:
/// `_ctypes.cpython-311-x86_64-linux-gnu.so`.
pub fn is_package_module(module: &str) -> bool {
    module.starts_with('_') && (module.contains(".cpython-") || module.contains(".abi3."))
}

/// Whether a module is an interpreter or a virtual machine: its name alone, or with a version behind it.
pub fn is_runtime_module(module: &str) -> bool {
    RUNTIME_MODULES.iter().filter_map(|name| module.strip_prefix(name)).any(|rest| {
        rest.is_empty() || rest.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '.' | '-'))
    })
}

/// Whether a function is part of a language's runtime.
pub fn is_runtime_function(function: &str) -> bool {
    starts_with_any(function, &RUNTIME_FUNCTIONS)
}

/// Whether a function is part of the C library or begins a program.
pub fn is_system_function(function: &str) -> bool {
    starts_with_any(function, &SYSTEM_FUNCTIONS)
}

/// Whether a source file is one of the C library's.
pub fn is_system_file(file: &str) -> bool {
    starts_with_any(file, &SYSTEM_FILES)
}

/// Whether a source file of interpreted code is part of the interpreter's own library, or of the interpreter itself.
pub fn is_interpreters_own(file: &str) -> bool {
    // Node's own scripts: `node:internal/timers`. Ruby's: `<internal:kernel>`.
    if file.starts_with("<frozen ") || file.starts_with("node:") || file.starts_with("<internal:") {
        return true;
    }
    // `/usr/lib/python3.11/json/decoder.py`, and not what is installed below it.
    let below = |(_, rest): (&str, &str)| {
        let (version, inside) = rest.split_once('/').unwrap_or((rest, ""));
        let is_version = !version.is_empty() && version.chars().all(|part| part.is_ascii_digit() || part == '.');
        is_version && !inside.is_empty()
    };
    !is_installed(file)
        && ["/lib/python", "/lib64/python", "/lib/ruby/"].iter().any(|home| file.split_once(home).is_some_and(below))
}

/// Whether a source file of interpreted code was installed as a package.
pub fn is_installed(file: &str) -> bool {
    const FOLDERS: [&str; 6] =
        ["/site-packages/", "/dist-packages/", "/node_modules/", "/vendor/", "/gems/", "/vendor_ruby/"];
    FOLDERS.iter().any(|folder| file.contains(folder))
}

/// Whether functions of this name allocate for whoever calls them.
pub fn is_wrapper(function: &str) -> bool {
    let family = family(function);
    let name = without_result(&family);
    if starts_with_any(name, &WRAPPER_PREFIXES) {
        return true;
    }
    let own = name.rsplit("::").next().unwrap_or(name);
    let words = words(own);
    if words.iter().any(|word| PURPOSES.contains(&word.as_str())) {
        return false;
    }
    let whole = words.concat();
    let is_general = |word: &String| GENERAL.contains(&word.as_str());
    STRONG.iter().any(|part| whole.contains(part))
        || words.split_last().is_some_and(|(last, before)| {
            let is_weak = WEAK
                .iter()
                .any(|weak| last == weak || last.strip_suffix(weak).is_some_and(|how| GENERAL.contains(&how)));
            // `new` alone is the constructor of a Rust type.
            is_weak && before.iter().all(is_general) && whole != "new"
        })
}

/// Whether a name is that of JavaScript code, as V8 writes it into a perf map.
pub fn is_script(function: &str) -> bool {
    function.starts_with("JS:")
}

/// The source file and the line in the name of JavaScript code: `JS:*remember /srv/map.js:3:18`.
pub fn script(function: &str) -> Option<(&str, u32)> {
    let place = function.strip_prefix("JS:")?.split_once(' ')?.1;
    let mut parts = place.rsplitn(3, ':');
    let (_column, line, file) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse().ok()?, parts.next()?);
    let file = file.strip_prefix("file://").unwrap_or(file);
    (!file.is_empty() && !file.starts_with("node:") && line > 0).then_some((file, line))
}

/// One name for JavaScript code whichever of V8's compilers made it; other names as they are.
pub fn same_for_tiers(function: &str) -> Cow<'_, str> {
    if is_script(function) { family(function) } else { Cow::Borrowed(function) }
}

fn starts_with_any(name: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|beginning| name.starts_with(beginning))
}

/// Demanglers put the type of the result before the instance of a template: `void std::vector<>::reserve`.
fn without_result(name: &str) -> &str {
    if name.contains("operator") || name.starts_with('<') {
        return name;
    }
    name.rsplit(' ').next().unwrap_or(name)
}

/// The words of a name in lower case, without digits: `sqlite3DbMallocRaw` has `sqlite`, `db`, `malloc`, `raw`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for character in name.chars() {
        let begins = character.is_uppercase() && before.is_lowercase();
        if (begins || !character.is_alphabetic()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if character.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_lowercase());
        }
        before = character;
    }
    words.retain(|word| !word.is_empty());
    words
}
