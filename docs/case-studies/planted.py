"""Stalls of 300 ms, planted at random times in a redis that serves, and decoys: does `forktrace
watch` save each stall, and nothing else?

    python3 docs/case-studies/planted.py --minutes 60 --forktrace target/release/forktrace

Needs root, redis-server and python3. Decoys are sleeps of 100 ms, pauses of the client, and scripts
that compute. Prints what came of it; the exit status is 1 if a stall is missing or a save is false.
"""

import argparse
import collections
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

WHEN = "all_blocked.now_ns > 200 * ms && cause != 'idle'"
KINDS = ["stall", "stall", "short", "idle", "computes"]
TICKS = os.sysconf("SC_CLK_TCK")


class Redis:
    """A connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, *words):
        words = [str(word).encode() for word in words]
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.socket.sendall(b"*%d\r\n%s" % (len(words), b"".join(parts)))
        return self.socket.recv(65536)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def connect(port):
    for _ in range(100):
        try:
            return Redis(port)
        except ConnectionRefusedError:
            time.sleep(0.1)
    sys.exit("error: redis does not serve")


def serve(redis, rate, over, pause):
    """So many requests a second."""
    due = time.monotonic()
    while not over.is_set():
        if pause.is_set():
            time.sleep(0.05)
            due = time.monotonic()
            continue
        redis.ask("SET", "key", due)
        due = max(due + 1 / rate, time.monotonic() - 0.5)
        time.sleep(max(0, due - time.monotonic()))


def plant(redis, kind, pause):
    if kind in ("stall", "short"):
        redis.ask("DEBUG", "SLEEP", 0.3 if kind == "stall" else 0.1)
    elif kind == "idle":
        pause.set()
        time.sleep(1)
        pause.clear()
    else:
        redis.ask("EVAL", "local x = 0 for i = 1, 6000000 do x = x + i end return x", 0)


def memory_kb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def switches(pid):
    files = pathlib.Path(f"/proc/{pid}/task").glob("*/status")
    lines = (line for file in files for line in file.read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--forktrace", default="forktrace")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=500, help="requests a second")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    folder = tempfile.TemporaryDirectory()
    port = free_port()
    server = ["redis-server", "--port", str(port), "--save", "", "--dir", folder.name]
    server += ["--enable-debug-command", "yes"]
    redis = subprocess.Popen(server, stdout=subprocess.DEVNULL)
    loaded, planter = connect(port), connect(port)
    watch = [options.forktrace, "watch", "-p", str(redis.pid), "--when", WHEN, "--keep", "5s"]
    watch += ["--after", "2s", "--pause", "5s", "--save-dir", folder.name, "--max", "1000"]
    watch = subprocess.Popen(watch, stderr=subprocess.PIPE, text=True)
    watch.stderr.readline()
    over, pause = threading.Event(), threading.Event()
    client = threading.Thread(target=serve, args=(loaded, options.rate, over, pause))
    client.start()
    draw = random.Random(options.seed)
    planted = collections.Counter()
    stalls, memory = [], []
    time.sleep(15)
    begun, cpu, switched = time.time(), cpu_s(watch.pid), switches(redis.pid)
    while time.time() - begun < options.minutes * 60:
        kind = draw.choice(KINDS)
        planted[kind] += 1
        if kind == "stall":
            stalls.append(time.time())
        plant(planter, kind, pause)
        memory.append(memory_kb(watch.pid))
        time.sleep(draw.uniform(13, 50))
    took = time.time() - begun
    cpu, switched = cpu_s(watch.pid) - cpu, switches(redis.pid) - switched
    watch.send_signal(signal.SIGTERM)
    watch.communicate()
    over.set()
    client.join()
    redis.kill()
    # `forktrace-20260131T235959Z.ft`: when the condition came true.
    names = sorted(path.stem.split("-")[1] for path in pathlib.Path(folder.name).glob("*.ft"))
    saved = [time.mktime(time.strptime(name[:15], "%Y%m%dT%H%M%S")) - time.timezone for name in names]
    missed = [at for at in stalls if not any(-1 <= it - at <= 2 for it in saved)]
    false = [it for it in saved if not any(-1 <= it - at <= 2 for at in stalls)]
    print(f"{took / 60:.0f} minutes, planted: {dict(planted)}")
    print(f"stalls saved: {len(stalls) - len(missed)} of {len(stalls)}; saved without one: {len(false)}")
    print(f"memory of forktrace: {min(memory)} to {max(memory)} kB")
    print(f"CPU of forktrace: {100 * cpu / took:.2f} % of one, at {switched / took:.0f} switches a second")
    sys.exit(bool(missed or false))


if __name__ == "__main__":
    main()
