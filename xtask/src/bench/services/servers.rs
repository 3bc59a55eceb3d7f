//! The servers, how each is started, and how it is asked.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{
    super::process::{Background, capture},
    load::{CONNECTIONS, ask, free_port, listens},
};
use crate::util::{find_program, run};

const JAVA: &str = include_str!("Served.java");

const NODE: &str = "require('http').createServer((request, answer) => answer.end('served\\n'))\
    .listen(Number(process.argv[1]), '127.0.0.1')";

const NGINX: &str =
    "daemon off; worker_processes 1; pid FOLDER/nginx.pid; error_log FOLDER/error.log;
events {}
http {
    access_log off; keepalive_requests 100000000;
    server { listen 127.0.0.1:PORT; location / { return 200 'served'; } }
}
";

const HTTP: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// How long PostgreSQL may take to begin and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server and its client.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) programs: &'static [&'static str],
    /// Done once, with a folder that is its own.
    pub(super) prepare: fn(&Path) -> Result<()>,
    /// The command that serves on this port of this machine only.
    pub(super) argv: fn(&Path, u16) -> Result<Vec<OsString>>,
    /// Can it be asked?
    pub(super) serves: fn(u16) -> bool,
    /// Asks from this CPU for so many seconds; gives answers a second.
    pub(super) load: fn(u16, usize, u32) -> Result<f64>,
}

pub(super) const SERVERS: [Server; 5] = [
    Server {
        name: "redis",
        programs: &["redis-server"],
        prepare: |_| Ok(()),
        argv: redis,
        serves: listens,
        load: |port, cpu, seconds| ask(port, cpu, seconds, "PING\r\n"),
    },
    Server {
        name: "nginx",
        programs: &["nginx"],
        prepare: |_| Ok(()),
        argv: nginx,
        serves: listens,
        load: http,
    },
    Server {
        name: "PostgreSQL",
        programs: &["setpriv"],
        prepare: new_database,
        argv: postgres,
        serves: |port| asks_postgres(port, "pg_isready", &["-q"]).is_ok(),
        load: pgbench,
    },
    Server {
        name: "Node",
        programs: &["node"],
        prepare: |_| Ok(()),
        argv: |_, port| Ok(words(&["node", "-e", NODE, &port.to_string()])),
        serves: listens,
        load: http,
    },
    Server {
        name: "JVM",
        programs: &["javac", "java"],
        prepare: compile,
        argv: |folder, port| {
            // Without, each answer waits for the client's delayed acknowledgement.
            let mut argv = words(&["java", "-Dsun.net.httpserver.nodelay=true", "-cp"]);
            argv.push(folder.into());
            argv.extend(words(&["Served", &port.to_string()]));
            Ok(argv)
        },
        serves: listens,
        load: http,
    },
];

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn http(port: u16, cpu: usize, seconds: u32) -> Result<f64> {
    ask(port, cpu, seconds, HTTP)
}

fn redis(folder: &Path, port: u16) -> Result<Vec<OsString>> {
    let port = port.to_string();
    let mut argv = words(&["redis-server", "--port", &port, "--bind", "127.0.0.1"]);
    argv.extend(words(&["--appendonly", "no", "--save", "", "--dir"]));
    argv.push(folder.into());
    Ok(argv)
}

fn nginx(folder: &Path, port: u16) -> Result<Vec<OsString>> {
    let file = folder.join("nginx.conf");
    let text = NGINX
        .replace("FOLDER", &folder.to_string_lossy())
        .replace("PORT", &port.to_string());
    fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
    let mut argv = words(&["nginx", "-c"]);
    argv.extend([file.into(), "-p".into(), folder.into()]);
    Ok(argv)
}

fn compile(folder: &Path) -> Result<()> {
    let source = folder.join("Served.java");
    fs::write(&source, JAVA).with_context(|| format!("could not write {}", source.display()))?;
    run(Command::new("javac").arg("-d").arg(folder).arg(source))
}

/// PostgreSQL's programs are not in Debian's PATH.
fn of_postgres(name: &str) -> Result<PathBuf> {
    let own = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = own
        .flatten()
        .map(|it| it.path().join("bin").join(name))
        .max();
    newest
        .filter(|path| path.exists())
        .or_else(|| find_program(name))
        .with_context(|| format!("no {name} here"))
}

/// It refuses to be root.
fn as_postgres(program: &str) -> Result<Vec<OsString>> {
    let mut argv = words(&["setpriv", "--reuid=postgres", "--regid=postgres"]);
    argv.push("--clear-groups".into());
    argv.push(of_postgres(program)?.into());
    Ok(argv)
}

fn postgres(folder: &Path, port: u16) -> Result<Vec<OsString>> {
    let mut argv = as_postgres("postgres")?;
    argv.push("-D".into());
    argv.push(folder.join("db").into());
    argv.extend(words(&[
        "-p",
        &port.to_string(),
        "-h",
        "127.0.0.1",
        "-k",
        "",
    ]));
    argv.extend(words(&["-c", "fsync=off"]));
    Ok(argv)
}

/// What tells one of its programs which server it is to ask.
fn to_postgres(port: u16) -> Vec<OsString> {
    words(&["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres"])
}

/// Runs one of its programs against the server, and gives what it prints.
fn asks_postgres(port: u16, program: &str, arguments: &[&str]) -> Result<String> {
    let mut argv: Vec<OsString> = vec![of_postgres(program)?.into()];
    argv.extend(to_postgres(port));
    argv.extend(words(arguments));
    capture(&argv)
}

fn new_database(folder: &Path) -> Result<()> {
    // Its user has to get to its folder.
    for path in [folder, folder.parent().context("a folder above")?] {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    run(Command::new("chown").arg("postgres").arg(folder))?;
    let mut argv = as_postgres("initdb")?;
    argv.extend([OsString::from("-D"), folder.join("db").into()]);
    argv.extend(words(&["-A", "trust", "-U", "postgres", "-N"]));
    capture(&argv)?;
    let port = free_port()?;
    let mut server = Background::start(&postgres(folder, port)?, folder)?;
    server.until(PATIENCE, |_| {
        asks_postgres(port, "pg_isready", &["-q"]).is_ok()
    })?;
    asks_postgres(port, "pgbench", &["-i", "-q", "postgres"])?;
    server.signal(Signal::SIGTERM)?;
    server.end(PATIENCE)
}

/// Selects by primary key.
fn pgbench(port: u16, cpu: usize, seconds: u32) -> Result<f64> {
    let mut argv = words(&["taskset", "-c", &cpu.to_string()]);
    argv.push(of_postgres("pgbench")?.into());
    argv.extend(to_postgres(port));
    let (clients, seconds) = (CONNECTIONS.to_string(), seconds.to_string());
    argv.extend(words(&[
        "-n", "-S", "-M", "prepared", "-c", &clients, "-j", "2", "-T",
    ]));
    argv.extend(words(&[&seconds, "postgres"]));
    transactions_per_second(&capture(&argv)?)
}

fn transactions_per_second(printed: &str) -> Result<f64> {
    let rate = printed.lines().find_map(|line| {
        let (number, _) = line.strip_prefix("tps = ")?.split_once(' ')?;
        number.parse().ok()
    });
    rate.with_context(|| format!("pgbench printed {printed:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_stands_behind_tps() {
        let printed = "latency average = 0.3 ms\ntps = 24561.5 (without initial connection time)\n";
        assert_eq!(transactions_per_second(printed).unwrap(), 24561.5);
        assert!(transactions_per_second("tps = \n").is_err());
    }
}
