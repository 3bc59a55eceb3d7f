//! Whose code a function is: the program's own, or that of a library that only does what
//! the program asks of it.
//!
//! The waiting code of a block is the innermost function that is the program's own. What is
//! skipped is the C library, language runtimes with their standard libraries, and libraries
//! of event loops and threads: by file, and by name where that code is built into the program.
//! A library of another kind counts as the program's.

/// Whose code it is, as far as the file that it is in tells.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub(super) enum Whose {
    /// It is in no file that is known.
    #[default]
    Unknown,
    Program,
    /// The C library's, or that of a runtime.
    Library,
    /// Of a language's standard library, and written in that language: it is better than
    /// nothing.
    Standard,
}

/// Libraries by name, up to the version and `.so`.
const LIBRARIES: [&str; 60] = [
    // The C library and the loader.
    "libc",
    "ld",
    "ld-linux",
    "ld-linux-x86-64",
    "ld-linux-aarch64",
    "ld-musl-x86_64",
    "ld-musl-aarch64",
    "libc.musl-x86_64",
    "libc.musl-aarch64",
    "libpthread",
    "librt",
    "libdl",
    "libm",
    "libresolv",
    "libnss_files",
    "libnss_dns",
    "libjemalloc",
    "libtcmalloc",
    "libtcmalloc_minimal",
    "libmimalloc",
    // Runtimes of compiled languages.
    "libstdc++",
    "libc++",
    "libc++abi",
    "libgcc_s",
    "libunwind",
    "libgomp",
    "libomp",
    "libiomp5",
    "libgfortran",
    "libgo",
    "libtbb",
    "libasan",
    "libtsan",
    "libubsan",
    // Event loops and threads.
    "libuv",
    "libev",
    "libevent",
    "libevent_core",
    "libevent_pthreads",
    "liburing",
    "libaio",
    "libglib-2.0",
    "libgio-2.0",
    "libgobject-2.0",
    "libgthread-2.0",
    "libQt5Core",
    "libQt6Core",
    // Interpreters.
    "libruby",
    "libperl",
    "libphp",
    "libnode",
    "libv8",
    "liblua",
    "libluajit",
    "libjvm",
    "libjava",
    "libjli",
    "libnio",
    "libnet",
    "libcoreclr",
];

/// Programs that are interpreters: their own code says nothing of what they execute.
const INTERPRETERS: [&str; 11] = [
    "python", "pypy", "node", "nodejs", "ruby", "perl", "php", "php-fpm", "java", "lua", "luajit",
];

/// Calls of the C library that wait, in programs that are linked statically.
const CALLS: [&str; 36] = [
    "accept",
    "accept4",
    "clock_nanosleep",
    "clone",
    "connect",
    "epoll_pwait",
    "epoll_wait",
    "fdatasync",
    "flock",
    "fsync",
    "futex_wait",
    "msync",
    "nanosleep",
    "open",
    "openat",
    "pause",
    "poll",
    "ppoll",
    "pselect",
    "read",
    "readv",
    "recv",
    "recvfrom",
    "recvmsg",
    "select",
    "send",
    "sendmsg",
    "sendto",
    "sigsuspend",
    "sleep",
    "syscall",
    "usleep",
    "wait4",
    "waitpid",
    "write",
    "writev",
];
const CALLS_BY_BEGINNING: [&str; 7] = [
    "pthread_", "sem_", "mtx_", "cnd_", "thrd_", "futex_", "_IO_",
];

/// What names of C++ and Rust begin with that are of their libraries.
const NAMESPACES: [&str; 25] = [
    "std",
    "core",
    "alloc",
    "test",
    "parking_lot",
    "parking_lot_core",
    "lock_api",
    "tokio",
    "mio",
    "polling",
    "async_io",
    "async_std",
    "async_executor",
    "smol",
    "futures_executor",
    "futures_util",
    "crossbeam_channel",
    "crossbeam_utils",
    "rayon",
    "rayon_core",
    "rustix",
    "__gnu_cxx",
    "boost",
    "asio",
    "absl",
];

/// Packages of Go's standard library.
const PACKAGES: [&str; 22] = [
    "bufio", "bytes", "compress", "context", "crypto", "database", "encoding", "errors", "fmt",
    "hash", "internal", "io", "log", "net", "os", "reflect", "runtime", "sort", "sync", "syscall",
    "time", "vendor",
];

/// In place of functions that can have called the one above, and of which nothing tells.
pub(super) const GAP: &str = "[functions can be missing here]";

/// What compilers add to names of C.
const PARTS: [&str; 6] = ["part", "isra", "constprop", "cold", "lto_priv", "llvm"];

/// Names of code that executes other code, in perf maps.
const EXECUTES: [&str; 4] = ["Interpreter", "StubRoutines", "Builtins_", "CompileLazy"];

/// By the path or the name of the file that code is in.
pub(super) fn of_file(path: &str) -> Whose {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.starts_with("[vdso]") || name.starts_with("linux-vdso") {
        return Whose::Library;
    }
    let is_library = match name.split_once(".so") {
        Some((stem, rest)) if rest.is_empty() || rest.starts_with('.') => {
            let unversioned = stem.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
            let unversioned = unversioned.strip_suffix('-').unwrap_or(unversioned);
            [stem, unversioned].iter().any(|it| LIBRARIES.contains(it))
                || stem.starts_with("libpython")
                || stem.starts_with("libboost_")
        }
        _ => false,
    };
    if is_library || is_interpreter(name) {
        return Whose::Library;
    }
    Whose::Program
}

/// `python3.11`, `node`.
pub(super) fn is_interpreter(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&stem)
}

/// A function of a stack.
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) whose: Whose,
    /// It has a name: it is not just a place in a file.
    pub(super) is_named: bool,
}

/// Which function of a stack, given innermost first, is the waiting code.
pub(super) fn waits_in<'a>(stack: impl Iterator<Item = Function<'a>>) -> Option<usize> {
    let mut better_than_nothing = None;
    // Nothing of another file was on top: it can be one that has its libraries in itself.
    let mut is_alone = true;
    for (at, function) in stack.enumerate() {
        if function.name == "[signal]" {
            continue;
        }
        // It can be one of these.
        if function.name == GAP {
            break;
        }
        match function.whose {
            Whose::Library => {
                is_alone = false;
                continue;
            }
            Whose::Standard => {
                better_than_nothing = better_than_nothing.or(Some(at));
                continue;
            }
            // What that is nobody knows.
            Whose::Unknown if !function.is_named || executes(function.name) => break,
            Whose::Program if !function.is_named => return Some(at),
            _ => {}
        }
        let passes = is_runtime(function.name) || is_alone && is_call(function.name);
        if !passes {
            return Some(at);
        }
    }
    better_than_nothing
}

fn executes(name: &str) -> bool {
    EXECUTES.iter().any(|it| name.starts_with(it))
}

fn is_call(name: &str) -> bool {
    CALLS.contains(&name) || CALLS_BY_BEGINNING.iter().any(|it| name.starts_with(it))
}

/// Is it of a runtime, by its name?
fn is_runtime(name: &str) -> bool {
    // Such names of C are kept for those who implement it.
    if name.starts_with("__") || name == "_start" {
        return true;
    }
    if let Some(code) = name.strip_prefix("py::") {
        let file = code.rsplit_once(':').map_or("", |(_, file)| file);
        return is_standard_python(file);
    }
    if let Some(code) = name.strip_prefix("JS:") {
        return code.contains(" node:");
    }
    let path = qualified(name);
    match path.split_once("::") {
        Some((first, _)) => NAMESPACES.contains(&first) || is_of_java(name),
        None => is_of_go(name) || is_of_java(name),
    }
}

/// Without what C++ and Rust put before the path of a function: what it returns, and the
/// brackets of `<T as Trait>::function`.
fn qualified(name: &str) -> &str {
    let mut rest = name;
    loop {
        let begin = rest.trim_start_matches(['<', '&', '*']);
        let begin = ["mut ", "dyn ", "const ", "_<"]
            .iter()
            .find_map(|it| begin.strip_prefix(it))
            .unwrap_or(begin);
        if begin.len() == rest.len() {
            break;
        }
        rest = begin;
    }
    // A type that is returned: a blank before the name, outside of all brackets.
    let mut depth = 0usize;
    for (at, c) in rest.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            '(' if depth == 0 => break,
            ' ' if depth == 0 => match rest[at + 1..].starts_with("as ") {
                true => break,
                false => return qualified_once(&rest[at + 1..]),
            },
            _ => {}
        }
    }
    rest
}

fn qualified_once(name: &str) -> &str {
    name.trim_start_matches(['*', '&', ' '])
}

/// `net/http.(*Server).Serve`, and no `read.part.0` of C.
fn is_of_go(name: &str) -> bool {
    let path = name.split_once('.').map(|(path, rest)| {
        let part = rest.split('.').next().unwrap_or(rest);
        (path, part)
    });
    let Some((path, part)) = path.filter(|(_, part)| !PARTS.contains(part)) else {
        return false;
    };
    let first = path.split('/').next().unwrap_or(path);
    !part.is_empty() && PACKAGES.contains(&first)
}

/// `Ljava/lang/Thread;::sleep`, `java.util.concurrent.locks.LockSupport::park`.
fn is_of_java(name: &str) -> bool {
    let path = name.strip_prefix('L').unwrap_or(name);
    let parts = ["java", "javax", "jdk", "sun"];
    let first = path.split(['/', '.']).next().unwrap_or(path);
    first.len() < path.len() && parts.contains(&first)
}

/// Is this file of Python's standard library?
pub(super) fn is_standard_python(path: &str) -> bool {
    if path.starts_with("<frozen ") {
        return true;
    }
    let mut folders = path.split('/').rev().skip(1);
    // `lib/python3.11/threading.py`, and no `lib/python3.11/site-packages/…`.
    let versioned = |folder: &str| {
        let version = folder.strip_prefix("python3.").unwrap_or_default();
        !version.is_empty() && version.bytes().all(|c| c.is_ascii_digit())
    };
    folders
        .by_ref()
        .take_while(|folder| !matches!(*folder, "site-packages" | "dist-packages"))
        .any(versioned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_c_library_and_of_runtimes_are_known() {
        for path in [
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "libstdc++.so.6.0.30",
            "/lib/ld-musl-x86_64.so.1",
            "libc-2.31.so",
            "libpython3.13.so.1.0",
            "libboost_thread.so.1.74.0",
            "libev.so.4",
            "[vdso]",
            "/usr/bin/python3.11",
            "node",
        ] {
            assert_eq!(of_file(path), Whose::Library, "{path}");
        }
        for path in [
            "nginx",
            "libcurl.so.4",
            "libsqlite3.so.0",
            "/bin/sh",
            "libcc.so",
            "pythonic",
        ] {
            assert_eq!(of_file(path), Whose::Program, "{path}");
        }
    }

    #[track_caller]
    fn check(stack: &[(&str, Whose)], expected: Option<&str>) {
        let functions = stack.iter().map(|(name, whose)| Function {
            name,
            whose: *whose,
            is_named: !name.starts_with('['),
        });
        let found = waits_in(functions).map(|at| stack[at].0);
        assert_eq!(found, expected, "{stack:?}");
    }

    #[test]
    fn no_function_waited_where_others_can_be_missing_below_it() {
        let stack = [
            ("__clock_nanosleep", Whose::Program),
            (GAP, Whose::Unknown),
            ("main", Whose::Program),
        ];
        let functions = stack.map(|(name, whose)| Function {
            name,
            whose,
            is_named: true,
        });
        assert_eq!(waits_in(functions.into_iter()), None);
    }

    #[test]
    fn the_waiting_code_is_the_first_that_is_the_programs_own() {
        use Whose::{Library, Program, Standard, Unknown};
        let c = [
            ("__futex_abstimed_wait_common", Library),
            ("pthread_mutex_lock", Library),
            ("update_index", Program),
            ("thr", Program),
        ];
        check(&c, Some("update_index"));
        // The same, linked statically, where all is in one file.
        let linked = c.map(|(name, _)| (name, Program));
        check(&linked, Some("update_index"));
        check(&[("read", Library), ("read", Program)], Some("read"));
        check(
            &[("[libc.so.6+0x1]", Library), ("[nginx+0x41f]", Program)],
            Some("[nginx+0x41f]"),
        );
        // Nobody knows what made code is; what called it is not what waits.
        check(
            &[("read", Library), ("[0x7f00]", Unknown), ("main", Program)],
            None,
        );
        check(
            &[
                ("read", Library),
                ("Interpreter", Unknown),
                ("main", Program),
            ],
            None,
        );
        check(&[("read", Library), ("start_thread", Library)], None);
        check(
            &[("read", Library), ("[signal]", Program), ("work", Program)],
            Some("work"),
        );
        let python = [
            ("wait (threading.py:320)", Standard),
            ("fetch (app.py:41)", Program),
        ];
        check(&python, Some("fetch (app.py:41)"));
        check(&python[..1], Some("wait (threading.py:320)"));
    }

    #[test]
    fn names_of_runtimes_are_known() {
        for name in [
            "std::thread::sleep",
            "<std::sync::mpsc::Receiver<T> as core::iter::Iterator>::next",
            "<&mut core::fmt::Formatter as x::Y>::z",
            "void std::this_thread::sleep_for<long, std::ratio<1l, 1l> >(std::chrono::duration<long>)",
            "parking_lot::raw_mutex::RawMutex::lock_slow",
            "tokio::runtime::park::Inner::park",
            "runtime.futex.abi0",
            "internal/poll.(*FD).Read",
            "os.(*File).Read",
            "net/http.(*Server).Serve",
            "Ljava/lang/Thread;::sleep",
            "__libc_start_main",
            "JS:*listOnTimeout node:internal/timers:508:25",
            "py::wait:/usr/lib/python3.12/threading.py",
        ] {
            assert!(is_runtime(name), "{name}");
        }
        for name in [
            "app::fetch",
            "<app::Client as std::io::Read>::read",
            "void app::wait<int>(std::mutex&)",
            "std_fetch",
            "main.main",
            "github.com/a/b.Run",
            "io.part.0",
            "shop::(anonymous namespace)::rest(int)",
            "JS:~fetch /srv/app.js:10:3",
            "py::fetch:/srv/app.py",
            "main",
        ] {
            assert!(!is_runtime(name), "{name}");
        }
    }

    #[test]
    fn pythons_own_files_are_told_from_those_of_others() {
        let standard = [
            "/usr/lib/python3.11/threading.py",
            "/opt/lib/python3.8/asyncio/events.py",
        ];
        assert!(standard.iter().all(|path| is_standard_python(path)));
        assert!(is_standard_python("<frozen runpy>"));
        for path in [
            "/usr/lib/python3/dist-packages/x.py",
            "/usr/lib/python3.11/site-packages/requests/api.py",
            "/home/me/python3.x/app.py",
            "app.py",
            "<stdin>",
        ] {
            assert!(!is_standard_python(path), "{path}");
        }
    }
}
