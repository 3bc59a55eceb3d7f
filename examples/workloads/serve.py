"""A server in Python, by threads or by processes, under forktrace's own load.

    python3 serve.py --forktrace PATH --by threads|processes
                     [--connections N] [--work-us N] [--seconds S]

The same server as `forktrace workload serve --design thread` and `--design preforked`:
16 bytes come, some work is done, 16 bytes go back. Only the server is Python; the load
is `forktrace workload serve --only load`, whose line of JSON is what this prints, and
whose marks are written where FORKTRACE_MARKS_FD says.
"""

import argparse
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

MESSAGE = struct.Struct("<QQ")
U64 = (1 << 64) - 1


def mix(x):
    """The hash that the load checks: SplitMix64's finaliser."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & U64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & U64
    return x ^ (x >> 31)


def count(steps):
    while steps:
        steps -= 1


def steps_per_us():
    """The best of some tries, by the CPU clock: whatever disturbs makes it slower."""
    steps = 20_000
    best = float("inf")
    for _ in range(9):
        begin = time.thread_time_ns()
        count(steps)
        best = min(best, time.thread_time_ns() - begin)
    return steps * 1000 / max(best, 1)


def read_message(connection):
    message = b""
    while len(message) < MESSAGE.size:
        part = connection.recv(MESSAGE.size - len(message))
        if not part:
            return None
        message += part
    return message


def serve(connection, steps):
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while message := read_message(connection):
            client, number = MESSAGE.unpack(message)
            count(steps)
            connection.sendall(MESSAGE.pack(number, mix(client ^ mix(number))))


def accept_until_shut_down(listener, handle):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        handle(connection)


def by_threads(listener, steps):
    def handle(connection):
        threading.Thread(target=serve, args=(connection, steps)).start()

    # Returns when the listener is shut down; the program ends with its last thread.
    accept_until_shut_down(listener, handle)


def by_processes(listener, steps, workers):
    children = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                accept_until_shut_down(listener, lambda it: serve(it, steps))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        if status != 0:
            sys.exit(f"a worker failed: wait status {status}")


def server(listener, options):
    steps = int(options.work_us * steps_per_us()) if options.work_us else 0
    if options.by == "threads":
        by_threads(listener, steps)
    else:
        by_processes(listener, steps, options.connections)


def load(listener, options):
    host, port = listener.getsockname()
    marks = os.environ.get("FORKTRACE_MARKS_FD")
    command = [options.forktrace, "workload", "serve", "--only", "load"]
    command += ["--address", f"{host}:{port}"]
    command += ["--design", {"threads": "thread", "processes": "preforked"}[options.by]]
    command += ["--connections", str(options.connections)]
    command += ["--work-us", str(options.work_us), "--seconds", str(options.seconds)]
    return subprocess.run(command, pass_fds=[int(marks)] if marks else [], check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forktrace", required=True, help="the program, for its load")
    parser.add_argument("--by", choices=["threads", "processes"], required=True)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--work-us", type=int, default=0, help="CPU time of an answer")
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()

    listener = socket.create_server(("127.0.0.1", 0), backlog=max(options.connections, 128))
    child = os.fork()
    if child == 0:
        server(listener, options)
        return
    try:
        loaded = load(listener, options)
    finally:
        # Whoever shares the listener stops accepting.
        listener.shutdown(socket.SHUT_RDWR)
        _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(f"the server failed: wait status {status}")
    if loaded.returncode != 0:
        sys.exit(f"the load failed: exit status {loaded.returncode}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
