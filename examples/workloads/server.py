#!/usr/bin/env python3
"""A server on loopback, with a thread for each connection or with forked processes.

It speaks what `forktrace workload serve` speaks: 16 bytes there, 16 bytes back. Each
connection is served by a thread of its own, or by one of the processes that were
forked before and all accept on the one listener.

With --load it runs that command, its own address added as the last word, and ends
when the command does:

    server.py --design threads --connections 16 \\
        --load forktrace workload serve --design thread --only load \\
        --connections 16 --seconds 1 --address

Without, it prints its address and serves until it is killed.
"""

import argparse
import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import workers
from marks import VARIABLE

MESSAGE = struct.Struct("<QQ")
MASK = (1 << 64) - 1


def mix(x):
    """The finaliser of the SplitMix64 generator."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def answer(request):
    """The answer to a request, which differs from request to request."""
    client, number = MESSAGE.unpack(request)
    return MESSAGE.pack(number, mix(client ^ mix(number)))


def count(steps):
    """Work: pure Python, no call to anywhere."""
    for _ in range(steps):
        pass


def steps_per_us():
    """How fast this Python counts, in CPU time; whatever disturbs makes it slower."""
    steps = 100_000
    best_ns = None
    for _ in range(5):
        begin_ns = time.thread_time_ns()
        count(steps)
        ns = time.thread_time_ns() - begin_ns
        best_ns = ns if best_ns is None else min(best_ns, ns)
    return steps * 1000 / max(best_ns, 1)


def serve_connection(connection, steps):
    """Answers until the client is gone. One that breaks off counts that itself."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        try:
            while True:
                request = connection.recv(MESSAGE.size, socket.MSG_WAITALL)
                if len(request) < MESSAGE.size:
                    return
                count(steps)
                connection.sendall(answer(request))
        except ConnectionError:
            return


def accepted(listener):
    """The connections that come, until the listener is shut down."""
    while True:
        try:
            connection, _ = listener.accept()
        except ConnectionAbortedError:
            continue
        except OSError as error:
            if error.errno == errno.EINVAL:
                return
            raise
        yield connection


def serve_with_threads(listener, steps, _):
    """A thread for each connection; the main thread accepts."""
    threads = []
    for connection in accepted(listener):
        thread = threading.Thread(target=serve_connection, args=(connection, steps))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()


def serve_with_processes(listener, steps, connections):
    """As many processes as there will be connections; each accepts."""

    def worker():
        workers.name_task("worker")
        for connection in accepted(listener):
            serve_connection(connection, steps)

    workers.run("processes", [worker] * connections)


DESIGNS = {"threads": serve_with_threads, "processes": serve_with_processes}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--design", choices=DESIGNS, default="threads")
    parser.add_argument("--connections", type=int, default=16, metavar="N", help="most at once")
    parser.add_argument("--work-us", type=float, default=0, metavar="US", help="for an answer")
    parser.add_argument("--port", type=int, default=0, help="on loopback; by default a free one")
    parser.add_argument("--load", nargs=argparse.REMAINDER, metavar="COMMAND")
    arguments = parser.parse_args()

    listener = socket.create_server(("127.0.0.1", arguments.port), backlog=arguments.connections)
    address = "{}:{}".format(*listener.getsockname())
    steps = int(arguments.work_us * steps_per_us())
    def serve():
        workers.name_task("server")
        DESIGNS[arguments.design](listener, steps, arguments.connections)

    server = workers.FORK.Process(target=serve)
    server.start()
    try:
        if arguments.load:
            code = load(arguments.load + [address])
        else:
            code = until_told(address)
    finally:
        # Nobody comes any more: the server ends when its clients are gone.
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
    sys.exit(code or server.exitcode)


def load(command):
    """Runs the load; it may write marks as well."""
    marks = os.environ.get(VARIABLE)
    return subprocess.run(command, pass_fds=[int(marks)] if marks else []).returncode


def until_told(address):
    """Says where the server is and waits for SIGINT or SIGTERM."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    print(address, flush=True)
    signal.sigwait(signals)
    return 0


if __name__ == "__main__":
    main()
