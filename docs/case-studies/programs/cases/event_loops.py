"""One thread serves all, and something makes it wait elsewhere than in its loop."""
import json, os, re, subprocess, sys, threading, time, urllib.request

from harness import SOURCES, Missing, case, children, http, output, tool
from judge import Expected

SLEEP, TIMES = 0.4, 4
PLANTED = 1000 * SLEEP * TIMES
# Helpers of redis and of its allocator.
PARKED = "^(bio_|jemalloc)"


def is_blocked(task, says, oracle_ms, oracle, least=PLANTED):
    """The loop was blocked for what was planted, and for hardly longer than was measured."""
    # Now and then a loop waits a little elsewhere, too: for its memory, or for a file.
    return Expected("event_loop", task, says, (0.95 * least, 1.02 * oracle_ms + 5), oracle=oracle,
                    never=[r"^(deadlock|hang|lock|pool_exhausted)"], parked=PARKED)


def requests(port, path="/", every=0.02):
    """Asks for a page all the time; gives the function that ends this."""
    over = threading.Event()

    def ask():
        while not over.wait(every):
            try:
                http(port, path)
            except OSError:
                pass

    thread = threading.Thread(target=ask)
    thread.start()

    def end():
        over.set()
        thread.join()
    return end


@case("redis-sleep", ["redis-server", "redis-cli", "redis-benchmark"], serves=True)
def redis_sleeps(run):
    """DEBUG SLEEP on redis's main thread; three parked helper threads beside it"""
    port = run.free_port()
    cli = [tool("redis-cli"), "-p", port]
    run.trace_program(tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1",
                      "--save", "", "--enable-debug-command", "yes",
                      "--slowlog-log-slower-than", "100000")
    run.until_ready("an answer", lambda: "PONG" in output(*cli, "ping"))
    for _ in range(TIMES):
        output(tool("redis-benchmark"), "-p", port, "-q", "-n", "500", "-c", "5", "-t", "set")
        output(*cli, "debug", "sleep", SLEEP)
    slow = output(*cli, "--json", "slowlog", "get", "20")
    ms = sum(it[2] for it in json.loads(slow)) / 1000
    output(*cli, "shutdown", "nosave")
    run.wait()
    return is_blocked("redis-server", "slept|sleep", ms, f"SLOWLOG: {ms:.1f} ms")


@case("nginx-log", ["nginx"], serves=True)
def nginx_logs(run):
    """nginx's access log is a pipe whose reader stops reading: workers block in write"""
    port, log = run.free_port(), run.folder / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    (run.folder / "html").mkdir()
    (run.folder / "html/index.html").write_text("hello\n")
    (run.folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid nginx.pid; error_log error.log; user root;
events {{ worker_connections 64; }}
http {{ log_format long "$request_time {'x' * 3000}"; access_log {log} long;
client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;
scgi_temp_path t5; server {{ listen 127.0.0.1:{port}; root html; }} }}""")
    run.trace_program(tool("nginx"), "-p", str(run.folder), "-c", "nginx.conf")
    run.until_listening(port)
    os.set_blocking(reader, True)
    longest = []
    for _ in range(TIMES):
        # The pipe holds 64 KiB: some 21 lines fit in.
        end = requests(port, every=0.001)
        worker = children(run.program())[0]
        run.until("blocked in write", lambda: blocked_in(worker, "pipe_write"))
        begin = time.monotonic()
        time.sleep(SLEEP)
        drain(reader)
        longest.append(1000 * (time.monotonic() - begin))
        over = threading.Event()
        drainer = threading.Thread(target=keep_draining, args=(reader, over))
        drainer.start()
        end()
        over.set()
        drainer.join()
    threading.Thread(target=keep_draining, args=(reader, threading.Event()), daemon=True).start()
    run.end()
    ms = sum(longest)
    return is_blocked("nginx", "write|pipe|log", 1.2 * ms + 100, f"the reader paused {ms:.0f} ms")


def blocked_in(pid, function):
    """Does a task sleep there? By the kernel's own word for where it does."""
    with open(f"/proc/{pid}/wchan") as it:
        return function in it.read()


def drain(reader):
    os.set_blocking(reader, False)
    try:
        while os.read(reader, 1 << 20):
            pass
    except BlockingIOError:
        pass


def keep_draining(reader, over):
    while not over.wait(0.005):
        drain(reader)


NODE = """
const fs = require('fs'), http = require('http');
const {monitorEventLoopDelay} = require('perf_hooks');
const delay = monitorEventLoopDelay({resolution: 10});
http.createServer((request, response) => {
  if (request.url == '/end') { response.end(JSON.stringify({max_ms: delay.max / 1e6}));
    setTimeout(() => process.exit(0), 20); return; }
  if (request.url == '/block') { const begin = performance.now(); BLOCK;
    response.end(String(performance.now() - begin)); return; }
  response.end('ok');
}).listen(+process.argv[2], '127.0.0.1', () => delay.enable());
"""


def node(run, block):
    """Gives the loop's longest delay, and how long it was blocked by its own clock."""
    port = run.free_port()
    (run.folder / "server.js").write_text(NODE.replace("BLOCK", block))
    run.trace_program(tool("node"), "server.js", str(port))
    run.until_listening(port)
    end = requests(port)
    blocked = 0
    for _ in range(TIMES):
        blocked += float(body(port, "/block"))
        time.sleep(0.1)
    end()
    longest = json.loads(body(port, "/end"))["max_ms"]
    run.wait()
    return blocked, f"blocked {blocked:.0f} ms; monitorEventLoopDelay: at most {longest:.0f} ms"


def body(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as it:
        return it.read().decode()


@case("node-read", ["node"], serves=True)
def node_reads(run):
    """readFileSync of a pipe that is written 0.4 s later blocks Node's event loop"""
    fifo = run.folder / "fifo"
    os.mkfifo(fifo)
    over = threading.Event()

    def write():
        while not over.is_set():
            try:
                writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads
                time.sleep(0.002)
                continue
            time.sleep(SLEEP)
            os.write(writer, b"x")
            os.close(writer)
            time.sleep(0.05)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        ms, oracle = node(run, "fs.readFileSync('fifo')")
    finally:
        over.set()
        thread.join()
    # Each open waits for the writer, too, and a read can end two of them.
    return is_blocked("node", "read|open|fifo", ms, oracle, least=0.9 * PLANTED)


@case("node-exec", ["node"], serves=True)
def node_executes(run):
    """execSync('sleep 0.4') blocks Node's event loop: it waits for a child"""
    ms, oracle = node(run, f"require('child_process').execSync('sleep {SLEEP}')")
    expected = is_blocked("node|sleep", "sleep|child|node", ms, oracle)
    expected.kinds.append("stall")
    return expected


@case("asyncio-sleep", ["python3"])
def asyncio_sleeps(run):
    """time.sleep in a coroutine blocks the loop of asyncio; it has one task only"""
    run.trace_program(sys.executable, "-X", "dev", "-c", f"""
import asyncio, logging, time
logging.basicConfig(level=logging.WARNING)
async def ticks():
    while True: await asyncio.sleep(0.02)
async def blocks():
    await asyncio.sleep(0.1)
    for _ in range({TIMES}):
        time.sleep({SLEEP})
        await asyncio.sleep(0.1)
async def main():
    ticking = asyncio.create_task(ticks())
    await asyncio.create_task(blocks())
asyncio.run(main(), debug=True)""")
    run.wait()
    slow = [float(it) for it in re.findall(r"took ([0-9.]+) seconds", run.said())]
    ms = 1000 * sum(slow)
    return is_blocked("python", "slept|sleep", ms + 5, f"slow callbacks: {len(slow)}, {ms:.0f} ms")


@case("uvicorn-sleep", ["uvicorn"], serves=True)
def uvicorn_sleeps(run):
    """time.sleep in an async handler under uvicorn"""
    port = run.free_port()
    (run.folder / "served.py").write_text(f"""
import time
async def app(scope, receive, send):
    if scope["type"] != "http": return
    begin = time.monotonic()
    if scope["path"] == "/block": time.sleep({SLEEP})
    took = str(1000 * (time.monotonic() - begin)).encode()
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": took}})
""")
    run.trace_program(tool("uvicorn"), "served:app", "--port", str(port), "--lifespan", "off",
                      "--log-level", "warning", env={"PYTHONPATH": str(run.folder)})
    run.until_listening(port)
    end = requests(port)
    ms = 0
    for _ in range(TIMES):
        ms += float(body(port, "/block"))
        time.sleep(0.1)
    end()
    run.end()
    return is_blocked("uvicorn|python", "slept|sleep", ms, f"the handler: {ms:.0f} ms")


@case("tokio-sleep", ["cargo"])
def tokio_sleeps(run):
    """std::thread::sleep in a task of tokio's current-thread runtime, beside a timer"""
    run.trace_program(rust(run, "sleeper"), str(TIMES), str(int(1000 * SLEEP)))
    run.wait()
    ms = float(re.search(r"slept ([0-9.]+)", run.said())[1])
    return is_blocked("sleeper", "slept|sleep", ms, f"the task: {ms:.0f} ms")


def rust(run, binary):
    """Builds the programs of sources/rust, once: its crates come from crates.io."""
    target = os.environ.get("FORKTRACE_PROGRAMS_TARGET", "/tmp/forktrace-programs-target")
    manifest = ["--locked", "--manifest-path", SOURCES / "rust/Cargo.toml"]
    if subprocess.run([tool("cargo"), "fetch", "-q", *manifest], stderr=subprocess.DEVNULL).returncode:
        raise Missing("crates.io can't be reached")
    run.build(tool("cargo"), "build", "-q", *manifest, "--target-dir", target)
    return f"{target}/debug/{binary}"
