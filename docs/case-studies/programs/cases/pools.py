"""Workers that are all busy, while work waits for one of them."""
import os, re, socket, struct, threading, time

from harness import Spoilt, case, children, http, tool
from judge import Expected

HELD, AT_ONCE = 0.6, 6


def exhausted(task, says, ms, oracle, kinds="pool_exhausted"):
    return Expected(kinds, task, says, ms, oracle=oracle, never=[r"^(deadlock|hang|event_loop)"])


def all_at_once(ask, count=AT_ONCE):
    """Asks from so many threads; gives how long each took, in ms."""
    took, failed = [], []

    def one():
        try:
            took.append(ask())
        except (OSError, Spoilt) as why:
            failed.append(why)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    if failed:
        raise Spoilt(str(failed[0]))
    return took


def slow_server(seconds):
    """A server outside the workload that answers after so long; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(it):
        with it:
            it.recv(65536)
            time.sleep(seconds)
            it.sendall(b"HTTP/1.0 200 OK\r\n\r\nslow")

    def serve():
        while True:
            try:
                it, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(it,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


@case("gunicorn-workers", ["gunicorn"], serves=True)
def gunicorn_workers(run):
    """two sync workers of gunicorn, both in recv from a slow server; six requests"""
    port, upstream = run.free_port(), slow_server(HELD)
    (run.folder / "served.py").write_text(f"""
import urllib.request
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        urllib.request.urlopen("http://127.0.0.1:{upstream.getsockname()[1]}").read()
    start_response("200 OK", [])
    return [b"done"]
""")
    run.trace_program(tool("gunicorn"), "-w", "2", "-b", f"127.0.0.1:{port}", "served:app",
                      "--log-level", "warning", env={"PYTHONPATH": str(run.folder)})
    # It listens before it has workers.
    run.until("two workers", lambda: len(children(run.program())) == 2)
    run.until_listening(port)
    http(port)
    begin = time.monotonic()
    took = all_at_once(lambda: http(port, "/slow"))
    ms = 1000 * (time.monotonic() - begin)
    run.end()
    upstream.close()
    least = 1000 * HELD * (AT_ONCE / 2 - 1)
    return exhausted("gunicorn", "recv|read|tcp|worker", (0.9 * least, ms + 100),
                     f"all done in {ms:.0f} ms, the slowest request {max(took):.0f} ms")


@case("php-fpm-workers", ["php-fpm8.2"], serves=True)
def php_workers(run):
    """two children of php-fpm, both in sleep; six requests"""
    port = run.free_port()
    (run.folder / "slow.php").write_text(f"<?php usleep({int(HELD * 1e6)}); echo 'done';")
    (run.folder / "fpm.conf").write_text(f"""
[global]
error_log = {run.folder}/error.log
daemonize = no
[pool]
user = root
listen = 127.0.0.1:{port}
pm = static
pm.max_children = 2
pm.status_path = /status
""")
    run.trace_program(tool("php-fpm8.2"), "-R", "-n", "-y", str(run.folder / "fpm.conf"))
    run.until_listening(port)
    begin = time.monotonic()
    all_at_once(lambda: fastcgi(port, run.folder / "slow.php", "/slow.php"))
    ms = 1000 * (time.monotonic() - begin)
    status = fastcgi(port, run.folder / "slow.php", "/status")
    queue = re.search(r"max listen queue:\s+(\d+)", status)
    run.end()
    least = 1000 * HELD * (AT_ONCE / 2 - 1)
    return exhausted("php-fpm", "sleep|worker", (0.9 * least, ms + 100),
                     f"all done in {ms:.0f} ms; max listen queue {queue and queue[1]}")


def fastcgi(port, script, name):
    """One request by FastCGI, as a web server makes it; gives the answer."""
    def record(kind, content):
        return struct.pack(">BBHHBB", 1, kind, 1, len(content), 0, 0) + content

    variables = {"SCRIPT_FILENAME": str(script), "SCRIPT_NAME": name, "REQUEST_METHOD": "GET"}
    coded = b"".join(bytes([len(k), len(v)]) + k.encode() + v.encode()
                     for k, v in variables.items())
    with socket.create_connection(("127.0.0.1", port), 30) as it:
        it.sendall(record(1, struct.pack(">HB5x", 1, 0)) + record(4, coded) + record(4, b"")
                   + record(5, b""))
        answer = b""
        while part := it.recv(65536):
            answer += part
    return answer.decode(errors="replace")


@case("node-pool", ["node"])
def node_pool(run):
    """all four threads of libuv's pool open pipes that nobody writes; a fifth job waits"""
    for i in range(4):
        os.mkfifo(run.folder / f"fifo{i}")
    (run.folder / "pool.js").write_text("""
const fs = require('fs');
for (let i = 0; i < 4; i++) fs.open('fifo' + i, 'r', () => {});
const begin = performance.now();
setTimeout(() => fs.stat('.', () => console.log('waited', performance.now() - begin)), 50);
setInterval(() => {}, 20).unref();
""")
    run.trace_program(tool("node"), "pool.js")
    node = run.program()
    run.until("four in open", lambda: opening(node) == 4)
    time.sleep(HELD)
    for i in range(4):
        os.close(os.open(run.folder / f"fifo{i}", os.O_WRONLY))
    run.wait()
    waited = re.search(r"waited ([0-9.]+)", run.said())
    ms = float(waited[1])
    return exhausted("node|libuv", "open|pool|worker", (0.9 * 1000 * HELD, ms + 100),
                     f"the fifth job took {ms:.0f} ms")


def opening(pid):
    """How many threads of a process wait in open for the other end of a pipe."""
    count = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/wchan") as it:
            count += "wait_for_partner" in it.read()
    return count
