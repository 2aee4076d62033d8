//! What the names of Go's functions and source files tell of whose they are.

use super::Role;

/// The packages of Go's standard library, by the first part of their paths.
const STANDARD: [&str; 50] = [
    "archive",
    "bufio",
    "bytes",
    "cmp",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "debug",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "go",
    "hash",
    "html",
    "image",
    "index",
    "internal",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "plugin",
    "reflect",
    "regexp",
    "slices",
    "sort",
    "strconv",
    "strings",
    "structs",
    "sync",
    "syscall",
    "testing",
    "text",
    "time",
    "type:",
    "unicode",
    "unique",
    "unsafe",
    "vendor",
    "weak",
];

/// Parts of the paths of source files that were fetched as modules of others.
const FETCHED: [&str; 3] = ["/pkg/mod/", "/vendor/", "@v"];

/// What the tool cgo writes between Go and C: source files, and how its functions' names begin.
const GENERATED_FILES: [&str; 4] = ["_cgo_gotypes.go", "_cgo_export.c", "cgo-gcc-prolog", "cgo-generated-wrapper"];
const GENERATED_FUNCTIONS: [&str; 4] = ["_cgo_", "_cgoexp_", "x_cgo_", "crosscall"];

/// The function by which Go calls C.
pub const CALL_OF_C: &str = "runtime.asmcgocall";

/// Whether a function only stands between Go and C.
pub fn is_between(function: &str, file: Option<&str>) -> bool {
    let name = file.map(|file| file.rsplit('/').next().unwrap_or(file));
    name.is_some_and(|name| GENERATED_FILES.contains(&name))
        || GENERATED_FUNCTIONS.iter().any(|begin| function.starts_with(begin))
}

/// Whose a function is; `None` if its source file is not of Go.
pub fn role(function: &str, file: &str) -> Option<Role> {
    let is_assembly = file.ends_with(".s") && function.starts_with("runtime.");
    if !file.ends_with(".go") && !is_assembly {
        return None;
    }
    let package = package(function);
    let first = package.split('/').next().unwrap_or(package);
    Some(if first == "runtime" || package == "internal/runtime" {
        Role::Runtime
    } else if STANDARD.contains(&first) || FETCHED.iter().any(|part| file.contains(part)) {
        Role::Library
    } else {
        Role::Own
    })
}

/// The path of a function's package: `net/http` of `net/http.(*conn).serve`.
fn package(function: &str) -> &str {
    // Arguments of types have paths of their own.
    let name = function.split(['[', '(']).next().unwrap_or(function);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[last..].find('.').map_or(name.len(), |dot| last + dot);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_of_their_packages() {
        let packages = [
            ("main.query", "main"),
            ("net/http.(*conn).serve", "net/http"),
            ("github.com/gin-gonic/gin.(*Engine).ServeHTTP", "github.com/gin-gonic/gin"),
            ("example.com/app/store.Keep[go.shape.*example.com/app.User]", "example.com/app/store"),
            ("runtime", "runtime"),
        ];
        for (function, expected) in packages {
            assert_eq!(package(function), expected);
        }
    }

    #[test]
    fn what_cgo_writes_stands_between() {
        for (function, file) in [
            ("_cgo_ede3172c975f_Cfunc__Cmalloc", Some("/tmp/go-build/_cgo_export.c")),
            ("main._Cfunc_keep", Some("_cgo_gotypes.go")),
            ("calledFromC", Some("/tmp/go-build/_cgo_export.c")),
            ("x_cgo_thread_start", None),
            ("crosscall2", None),
        ] {
            assert!(is_between(function, file), "{function}");
        }
        assert!(
            !is_between("keep_in_c", Some("/srv/app/calls.c")) && !is_between("main.one", Some("/srv/app/main.go"))
        );
    }

    #[test]
    fn a_programs_own_code_is_told_from_libraries() {
        let roles = [
            ("fmt.Sprintf", "/usr/lib/go-1.19/src/fmt/print.go", Some(Role::Library)),
            ("runtime.mallocgc", "/usr/lib/go-1.19/src/runtime/malloc.go", Some(Role::Runtime)),
            ("runtime.goexit", "asm_amd64.s", Some(Role::Runtime)),
            ("main.query", "/srv/app/main.go", Some(Role::Own)),
            ("go-map/store.Keep", "/srv/app/store/store.go", Some(Role::Own)),
            ("github.com/me/app.Keep", "/home/me/app/keep.go", Some(Role::Own)),
            (
                "github.com/gin-gonic/gin.New",
                "/root/go/pkg/mod/github.com/gin-gonic/gin@v1.9.1/gin.go",
                Some(Role::Library),
            ),
            ("github.com/gin-gonic/gin.New", "github.com/gin-gonic/gin@v1.9.1/gin.go", Some(Role::Library)),
            ("keep", "/srv/app/keep.c", None),
        ];
        for (function, file, expected) in roles {
            assert_eq!(role(function, file), expected, "{function} {file}");
        }
    }
}
