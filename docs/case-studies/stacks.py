#!/usr/bin/env python3
"""How much of the time that programs are blocked for 1 ms or longer has a stack that goes back to where the thread began.

Each program is as its distribution or its compiler gives it, and is traced with `--stacks=dwarf` under a load. Prints a
row for each: that share, of Python also the share that has a line, and why the rest has none. As root.
"""
import argparse, json, os, re, shlex, shutil, socket, subprocess, sys, tempfile, threading, time
from pathlib import Path

SECONDS = 5
LINE = re.compile(r" \([^()]+:\d+\)$")

SERVER = """
import queue, socketserver, threading, time
lock, jobs = threading.Lock(), queue.Queue()
def work():
    while True:
        jobs.get().set()
threading.Thread(target=work, daemon=True).start()
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(64)
        with lock:
            time.sleep(0.001)
        done = threading.Event()
        jobs.put(done)
        done.wait()
        time.sleep(0.005)
        self.request.sendall(b"done")
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True
with Server(("127.0.0.1", PORT), Handler) as server:
    threading.Timer(SECONDS, server.shutdown).start()
    server.serve_forever()
"""
MUTEXES = """
#include <pthread.h>
#include <unistd.h>
static pthread_mutex_t locks[8];
static void update_index(int n) { pthread_mutex_lock(&locks[n]); usleep(500); pthread_mutex_unlock(&locks[n]); }
static void *thr(void *arg) { for (int i = 0; i < 60; i++) update_index((i + (long)arg) % 8); return 0; }
int main(void) {
    pthread_t threads[64];
    for (long i = 0; i < 8; i++) pthread_mutex_init(&locks[i], 0);
    for (long i = 0; i < 64; i++) pthread_create(&threads[i], 0, thr, (void *)i);
    for (long i = 0; i < 64; i++) pthread_join(threads[i], 0);
}
"""
GO = """
package main
import ("sync"; "time")
func main() {
    var lock sync.Mutex
    var all sync.WaitGroup
    end := time.Now().Add(SECONDS * time.Second)
    for i := 0; i < 20; i++ {
        all.Add(1)
        go func(locks bool) {
            defer all.Done()
            for time.Now().Before(end) {
                if locks { lock.Lock() }
                time.Sleep(3 * time.Millisecond)
                if locks { lock.Unlock() }
            }
        }(i%2 == 0)
    }
    all.Wait()
}
"""
RUST = """
use std::{sync::{Arc, Mutex, mpsc}, thread, time::{Duration, Instant}};
fn main() {
    let (lock, end) = (Arc::new(Mutex::new(0)), Instant::now() + Duration::from_secs(SECONDS));
    let (tell, told) = mpsc::channel();
    let workers: Vec<_> = (0..8).map(|_| {
        let (lock, tell) = (lock.clone(), tell.clone());
        thread::spawn(move || while Instant::now() < end {
            { *lock.lock().unwrap() += 1; thread::sleep(Duration::from_millis(2)); }
            tell.send(1).unwrap();
            thread::sleep(Duration::from_millis(3));
        })
    }).collect();
    drop(tell);
    println!("{}", told.iter().sum::<u64>());
    workers.into_iter().for_each(|it| it.join().unwrap());
}
"""
NGINX = """
daemon off; worker_processes 2; pid nginx.pid; error_log error.log; user root; events { worker_connections 64; }
http { access_log off; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;
scgi_temp_path t5; server { listen 127.0.0.1:PORT; location / { return 200 "hello"; } } }
"""


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def until(condition):
    while not condition():
        time.sleep(0.05)


def listens(port):
    with socket.socket() as it:
        return it.connect_ex(("127.0.0.1", port)) == 0


def clients(port, request):
    """Sixteen that connect, ask, and wait for a moment, over and over, until the server is gone."""
    end = time.monotonic() + SECONDS

    def client():
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as it:
                    it.sendall(request)
                    it.recv(4096)
            except OSError:
                pass
            time.sleep(0.04)

    threads = [threading.Thread(target=client) for _ in range(16)]
    [it.start() for it in threads]
    [it.join() for it in threads]


def done(*command, **options):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, **options).stdout


def python(interpreter):
    def begin(folder):
        port = free_port()
        script = folder / "server.py"
        script.write_text(SERVER.replace("PORT", str(port)).replace("SECONDS", str(SECONDS)))
        return [interpreter, script], lambda _: (until(lambda: listens(port)), clients(port, b"ask")), []
    return begin


def c(folder):
    (folder / "mutexes.c").write_text(MUTEXES)
    done("gcc", "-O2", "mutexes.c", "-o", "mutexes", cwd=folder)
    return [folder / "mutexes"], lambda _: None, []


def go(folder):
    (folder / "sleeps.go").write_text(GO.replace("SECONDS", str(SECONDS)))
    done("go", "build", "sleeps.go", cwd=folder, env={**os.environ, "GO111MODULE": "off", "GOCACHE": str(folder / "go")})
    return [folder / "sleeps"], lambda _: None, []


def rust(folder):
    done("cargo", "init", "--vcs=none", "--name=sleeps", "sleeps", cwd=folder)
    (folder / "sleeps/src/main.rs").write_text(RUST.replace("SECONDS", str(SECONDS)))
    built = folder / "built"
    done("cargo", "build", "--release", "--offline", "--target-dir", built, cwd=folder / "sleeps")
    return [built / "release/sleeps"], lambda _: None, []


def nginx(folder):
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.replace("PORT", str(port)))

    def load(end):
        until(lambda: listens(port))
        clients(port, b"GET / HTTP/1.0\r\n\r\n")
        end(int((folder / "nginx.pid").read_text()))
    return ["/usr/sbin/nginx", "-p", folder, "-c", "nginx.conf"], load, []


def redis(folder):
    port = free_port()

    def load(_):
        until(lambda: listens(port))
        done("redis-benchmark", "-p", port, "-q", "-n", 60000, "-c", 20, "-t", "set,get")
        subprocess.run(["redis-cli", "-p", str(port), "shutdown", "nosave"])
    return ["/usr/bin/redis-server", "--port", port, "--dir", folder, "--save", ""], load, []


def postgres(folder):
    port, bin = free_port(), sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    done("chown", "postgres", folder)
    as_user = ["runuser", "-u", "postgres", "--"]
    done(*as_user, bin / "initdb", "-D", folder / "db", "-A", "trust", cwd=folder)

    def load(end):
        to = ["-h", folder, "-p", port, "-U", "postgres"]
        until(lambda: (folder / f".s.PGSQL.{port}").exists())
        until(lambda: not subprocess.call([bin / "pg_isready", "-q", *map(str, to)]))
        done(bin / "pgbench", *to, "-i", "-q", "postgres")
        done(bin / "pgbench", *to, "-n", "-c", 8, "-j", 2, "-T", SECONDS, "postgres")
        end(int((folder / "db/postmaster.pid").read_text().split()[0]))
    return [bin / "postgres", "-D", folder / "db", "-p", port, "-k", folder, "-h", ""], load, ["-u", "postgres"]


def programs():
    """What is here, by name."""
    debian = Path("/usr/bin/python3")
    minor = lambda it: int(it.parts[-3].split(".")[1])
    others = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"), key=minor)
    found = {f"python {it.parts[-3]}": python(it) for it in others if 8 <= minor(it) <= 14}
    if debian.exists():
        version = done(debian, "-V").decode().split()[1]
        found[f"python {version} (Debian's)"] = python(debian)
    needs = {"nginx": (nginx, "/usr/sbin/nginx"), "redis": (redis, "/usr/bin/redis-server"),
             "postgres": (postgres, "/usr/lib/postgresql"), "c": (c, "gcc"), "go": (go, "go"), "rust": (rust, "cargo")}
    found.update({name: it for name, (it, need) in needs.items() if Path(need).exists() or shutil.which(need)})
    return found


def run(forktrace, before, begin):
    """The report of one run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        command, load, options = begin(folder)
        traced = [*before, forktrace, "run", "-q", "--stacks=dwarf", "-o", folder / "report.json", *options, "--", *command]
        with open(folder / "output", "wb") as output:
            tracer = subprocess.Popen(list(map(str, traced)), cwd=folder, stdout=output, stderr=output)
        load(lambda pid: os.kill(pid, 2))
        tracer.wait()
        return json.loads((folder / "report.json").read_text())


def figures(report):
    long = report["stack_coverage"]["long"]
    share = lambda ns: 100 * ns / max(long["blocked_ns"], 1)
    stacks = [it for it in report["stacks"] if it["kind"] == "off_cpu"]
    told = [it for it in stacks if it["frames"] != ["[no stack]"]]
    ns = lambda of: sum(it["ns"] for it in of)
    lines = ns(it for it in told if any(LINE.search(frame) for frame in it["frames"]))
    lacks = [f"{share(it['ns']):.1f} % {it['why']}" for it in report["stack_coverage"]["lacks"]]
    # Stacks say nothing of their single blocks: of those that are a little shorter the part with a line is the same.
    return share(long["whole_ns"]), share(long["with_stack_ns"]) * lines / max(ns(told), 1), lacks


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="how names of programs begin; all without one")
    parser.add_argument("--forktrace", default="forktrace")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--before", default="", help="what forktrace and the program are started with: 'chrt -r 5'")
    options = parser.parse_args()
    print("| program | whole stack | with a line | runs, load | why the rest has none, in the worst one |\n|---|---|---|---|---|")
    for name, begin in programs().items():
        if options.names and not any(name.startswith(it) for it in options.names):
            continue
        runs = [figures(run(options.forktrace, shlex.split(options.before), begin)) for _ in range(options.times)]
        span = lambda at: f"{min(it[at] for it in runs):.1f} to {max(it[at] for it in runs):.1f} %"
        lines = span(1) if name.startswith("python") else ""
        print(f"| {name} | {span(0)} | {lines} | {len(runs)}, {os.getloadavg()[0]:.1f} | {'; '.join(min(runs)[2])} |", flush=True)


if __name__ == "__main__":
    main()
