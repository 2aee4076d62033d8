use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::report::sample::frame;

/// Of functions in modules.
fn stack(names: &[(&str, &str)]) -> Vec<Frame> {
    names.iter().map(|(function, module)| frame(function, module, None)).collect()
}

fn told(names: &[&str]) -> String {
    let frames: Vec<Frame> = names.iter().map(|name| frame(name, "server", None)).collect();
    at(&frames[blamed(&frames)]).into_owned()
}

fn unnamed(module: &str, offset: &str) -> Frame {
    Frame { function: None, offset: Some(offset.to_owned()), ..frame("", module, None) }
}

#[test]
fn allocation_wrappers_of_any_project_are_passed_over() {
    for wrapper in [
        "xmalloc",
        "emalloc",
        "ckalloc",
        "xcalloc",
        "safe_malloc",
        "my_realloc",
        "MyMalloc",
        "myAlloc",
        "g_malloc0_n",
        "g_strdup",
        "g_slice_alloc",
        "zmalloc_usable",
        "ztrymalloc_usable_internal",
        "sqlite3Malloc",
        "sqlite3MallocZero",
        "sqlite3DbMallocRawNN",
        "mallocWithAlarm",
        "ngx_alloc",
        "ngx_palloc",
        "apr_pcalloc",
        "PyMem_RawMalloc",
        "CRYPTO_zalloc",
        "av_mallocz",
        "ruby_xmalloc2",
        "xstrndup",
        "xasprintf",
        "xmalloc.constprop.0",
        "operator new(unsigned long)",
        "operator new[](unsigned long, std::nothrow_t const&)",
        "std::vector<int>::push_back(int&&)",
        "void std::vector<int, std::allocator<int> >::_M_realloc_insert<int>(int&&)",
        "__gnu_cxx::new_allocator<int>::allocate(unsigned long, void const*)",
        "alloc::raw_vec::finish_grow",
        "<alloc::vec::Vec<T> as Extend>::extend",
        "hashbrown::raw::RawTable<T,A>::reserve_rehash",
        "__rust_alloc",
        "Util::safeAlloc(unsigned long)",
    ] {
        assert_eq!(told(&[wrapper, "Cache::fill()", "main"]), "Cache::fill()", "{wrapper}");
    }
}

#[test]
fn functions_that_make_something_are_not() {
    for own in [
        "node_new",
        "conn_alloc",
        "parse",
        "Cache::allocate_entry()",
        "leak_malloc",
        "leak_here",
        "stdlib_wrapper",
        "std::string format_all<int>(int)::helper",
        "app::Table::new",
        "<app::Table as core::clone::Clone>::clone",
        "std::vector<int> app::make<int>(int)",
        "create_session",
        "allocation_report",
    ] {
        assert_eq!(told(&["operator new(unsigned long)", own, "main"]), own);
    }
}

#[test]
fn what_is_below_the_program_is_passed_over() {
    let frames = stack(&[
        ("__strdup", "libc.so.6"),
        ("std::string::_M_create", "libstdc++.so.6.0.30"),
        ("handle", "server"),
        ("main", "server"),
    ]);
    assert_eq!(blamed(&frames), 2);
    // A program without names has places all the same; the C library's debug information is no reason to blame it.
    let frames = vec![
        unnamed("lk", "0x1169"),
        unnamed("lk", "0x1190"),
        frame("__libc_start_call_main", "libc.so.6", Some(("./csu/../sysdeps/nptl/libc_start_call_main.h", 58))),
        unnamed("lk", "0x1071"),
    ];
    assert_eq!((blamed(&frames), at(&frames[0]).as_ref()), (0, "lk+0x1169"));
    // A static program has the C library in its own module.
    let frames = [
        frame("__strdup", "static", Some(("./string/strdup.c", 42))),
        frame("run", "static", None),
        frame("__libc_start_call_main", "static", Some(("./csu/../sysdeps/nptl/libc_start_call_main.h", 58))),
    ];
    assert_eq!(blamed(&frames), 1);
}

#[test]
fn the_users_code_counts_before_its_runtime() {
    let frames = stack(&[
        ("uv__malloc", "node"),
        ("uv__stream_open", "node"),
        ("node::LibuvStreamWrap::OnUvAlloc", "node"),
        ("JS:*remember /srv/app/map.js:3:18", "perf-7.map"),
    ]);
    assert_eq!(blamed(&frames), 3);
    assert_eq!(source(&frames[3]).unwrap(), ("/srv/app/map.js".into(), Some(3)));
    assert_eq!(at(&frames[3]), "JS:remember /srv/app/map.js:3:18");
    // Without any, the runtime's first that does not merely allocate.
    assert_eq!(blamed(&frames[..3]), 1);
    let frames =
        stack(&[("PyMem_RawMalloc", "python3.11"), ("list_resize", "python3.11"), ("load", "_ext.cpython-311.so")]);
    assert_eq!(blamed(&frames), 2);
    assert!(!names::is_runtime_module("nodes") && !names::is_runtime_module("rubydb"));
}

#[test]
fn a_stack_of_wrappers_has_its_first() {
    assert_eq!(told(&["xmalloc", "std::vector<int>::reserve"]), "xmalloc");
    assert_eq!(blamed(&[]), 0);
    let frames = stack(&[("__strdup", "libc.so.6"), ("xstrdup", "server"), ("_start", "server")]);
    assert_eq!(blamed(&frames), 1);
}

#[test]
fn in_a_checkout_its_own_files_win() {
    let frames = [
        frame("xmalloc", "server", Some(("/src/server/alloc.c", 5))),
        frame("BIO_new", "libcrypto.so.3", Some(("crypto/bio/bio_lib.c", 80))),
        frame("handle", "server", Some(("/src/server/../server/net.c", 97))),
        frame("main", "server", Some(("main.c", 12))),
    ];
    let there = |names: &'static [&'static str]| move |path: &Path| names.iter().any(|name| path == Path::new(name));
    let root = Path::new("/src/server");
    assert_eq!(blamed_below(&frames, root, there(&["/src/server/alloc.c", "/src/server/net.c"])), 2);
    assert_eq!(blamed_below(&frames, root, there(&["/src/server/main.c"])), 3);
    assert_eq!(blamed_below(&frames, root, |_| false), 1);
    assert_eq!(below("../other/x.c", root), None);
    assert_eq!(below("/src/server", root), None);
    assert_eq!(below("a/./b.c", root).as_deref(), Some(Path::new("a/b.c")));
}

#[test]
fn the_programs_module_is_where_it_begins() {
    let library = stack(&[("PyMem_RawMalloc", "libpython3.12.so.1.0"), ("start_thread", "libc.so.6")]);
    let whole = stack(&[
        ("Py_BytesMain", "libpython3.12.so.1.0"),
        ("_start", "python3.12"),
        ("_start", "ld-linux-x86-64.so.2"),
    ]);
    let told = |stacks: &[&Vec<Frame>]| executable(stacks.iter().map(|one| one.as_slice())).map(str::to_owned);
    assert_eq!(told(&[&library, &whole]).as_deref(), Some("python3.12"));
    assert_eq!(told(&[&library]).as_deref(), Some("libpython3.12.so.1.0"));
    assert_eq!(told(&[]), None);
}

#[test]
fn lines_in_names_of_scripts() {
    for (name, place) in [
        ("JS:~f file:///a b/c.mjs:10:2", Some(("/a b/c.mjs", 10))),
        ("JS:^readFile node:fs:418:18", None),
        ("JS:*f", None),
        ("JS:*f x.js:0:1", None),
        ("f x.js:1:1", None),
    ] {
        assert_eq!(names::script(name), place, "{name}");
    }
}

proptest! {
    #[test]
    fn any_names_have_a_blamed_frame(names in prop::collection::vec((any::<Option<String>>(), any::<Option<String>>()), 1..9)) {
        let frames: Vec<Frame> = names
            .into_iter()
            .map(|(function, module)| Frame { function, module, ..Frame::default() })
            .collect();
        let index = blamed(&frames);
        prop_assert!(index < frames.len());
        prop_assert!(frames.iter().all(|frame| role(frame) >= role(&frames[index])));
    }
}

fn script(function: &str, file: &str) -> Frame {
    Frame { kind: FrameKind::Interpreter, ..frame(function, "[python]", Some((file, 7))) }
}

#[test]
fn of_interpreted_code_the_programs_own_is_blamed_before_packages_and_the_interpreters_library() {
    let python = |function: &str| frame(function, "libpython3.11.so.1.0", None);
    let mut frames = vec![
        python("_PyObject_Malloc"),
        script("JSONDecoder.decode", "/usr/lib/python3.11/json/decoder.py"),
        python("_PyEval_Vector"),
        script("<module>", "<frozen importlib._bootstrap>"),
        script("Session.get", "/srv/venv/lib/python3.11/site-packages/requests/sessions.py"),
        script("handle", "/srv/app.py"),
        script("main", "/srv/app.py"),
    ];
    assert_eq!((blamed(&frames), called_by(&frames, 5)), (5, None));
    frames.truncate(5);
    assert_eq!(blamed(&frames), 4);
    frames.truncate(4);
    assert_eq!(blamed(&frames), 1);
    // A home of people's own that looks like one of the interpreter's.
    assert_eq!(
        blamed(&[python("x"), script("f", "/usr/lib/python3/app.py"), script("g", "/opt/lib/python-app/g.py")]),
        2
    );
}

#[test]
fn compiled_code_is_blamed_with_the_interpreted_code_that_called_it() {
    let frames = [
        frame("keep", "leaky.so", None),
        frame("cfunction_call", "python3.11", None),
        script("decode", "/usr/lib/python3.11/json/decoder.py"),
        script("handle", "/srv/app.py"),
    ];
    assert_eq!((blamed(&frames), called_by(&frames, 0)), (0, Some(3)));
    let frames =
        [frame("array_new", "_multiarray_umath.cpython-311-x86_64-linux-gnu.so", None), script("load", "/srv/a.py")];
    assert_eq!(blamed(&frames), 1);
    assert_eq!(called_by(&[frame("main", "server", None)], 0), None);
    assert_eq!(called_by(&[], 0), None);
}

#[test]
fn of_javascript_the_programs_own_is_blamed_before_packages_and_nodes_scripts() {
    let node = |function: &str| frame(function, "node", None);
    let script = |function: &str, file: Option<&'static str>| Frame {
        kind: FrameKind::Interpreter,
        ..frame(
            function,
            if file.is_some() { "[javascript]" } else { "[javascript built-in]" },
            file.map(|file| (file, 7)),
        )
    };
    let mut frames = vec![
        node("node::NodeArrayBufferAllocator::Allocate"),
        script("Uint8Array", None),
        Frame { function: None, ..frame("", "[anonymous]", None) },
        script("FastBuffer", Some("node:internal/buffer")),
        script("alloc", Some("node:buffer")),
        script("read", Some("/srv/node_modules/body/index.js")),
        script("keepUpload", Some("/srv/app.js")),
        script("emit", Some("node:events")),
        node("node::Start"),
    ];
    assert_eq!(blamed(&frames), 6);
    frames.remove(6);
    assert_eq!(blamed(&frames), 5);
}

#[test]
fn what_an_interpreter_does_between_two_functions_is_one_line() {
    let python = |function: &str| frame(function, "libpython3.11.so.1.0", None);
    let frames = [
        python("PyByteArray_Resize"),
        python("bytearray___init__"),
        python("type_call"),
        python("_PyObject_MakeTpCall"),
        python("_PyObject_Call"),
        script("handle", "/srv/app.py"),
        python("_PyEval_Vector"),
        frame("callback", "leaky.so", None),
        python("a"),
        python("b"),
        script("main", "/srv/app.py"),
        python("run"),
        python("run_main"),
        frame("_start", "python3", None),
    ];
    let lines: Vec<String> = shown(&frames)
        .iter()
        .map(|shown| match shown {
            Shown::Frame(frame) => at(frame).into_owned(),
            Shown::Inside(first, count) => format!("{count} from {}", at(first)),
        })
        .collect();
    assert_eq!(
        lines,
        [
            "PyByteArray_Resize",
            "bytearray___init__",
            "type_call",
            "2 from _PyObject_MakeTpCall",
            "handle",
            "_PyEval_Vector",
            "callback",
            "2 from a",
            "main",
            "2 from run",
            "_start"
        ]
    );
    assert_eq!(shown(&frames[..3]).len(), 3, "without interpreted code every frame is shown");
}

#[test]
fn the_users_own_code_is_marked() {
    let mut frames = [
        frame("malloc_wrapper", "libz.so.1", None),
        frame("parse", "leaky.so", Some(("/srv/leaky.c", 8))),
        frame("_PyEval_EvalFrameDefault", "python3.11", None),
        script("handle", "/srv/app.py"),
        script("get", "/usr/lib/python3/dist-packages/requests/api.py"),
        script("loads", "/usr/lib/python3.11/json/__init__.py"),
        frame("__libc_start_main", "libc.so.6", None),
    ];
    mark_own(&mut frames);
    assert_eq!(frames.map(|frame| frame.user), [false, true, false, true, false, false, false]);
}

#[test]
fn what_go_asks_of_c_is_told_by_the_function_in_go() {
    let go = |function: &str, file: &'static str| frame(function, "server", Some((file, 7)));
    let callers = [
        go("runtime.asmcgocall", "/usr/lib/go/src/runtime/asm_amd64.s"),
        go("runtime.cgocall", "/usr/lib/go/src/runtime/cgocall.go"),
        go("main._Cfunc__CMalloc", "_cgo_gotypes.go"),
        go("main.keep", "/srv/app/main.go"),
        go("runtime.goexit", "/usr/lib/go/src/runtime/asm_amd64.s"),
    ];
    for (c, expected) in [
        (vec![go("_cgo_ede3_Cfunc__Cmalloc", "/tmp/go-build/_cgo_export.c")], 4),
        (vec![unnamed("server", "0x1234"), unnamed("server", "0x5678")], 5),
        (vec![unnamed("libother.so", "0x1234")], 0),
        (vec![frame("keep_in_c", "server", None)], 0),
    ] {
        let frames: Vec<Frame> = c.into_iter().chain(callers.clone()).collect();
        assert_eq!(blamed(&frames), expected, "{frames:#?}");
    }
}
