#!/usr/bin/env python3
"""Threads that read, each from a pipe of its own, while the main thread computes.

A child process writes to all pipes, time after time. What it writes is the time of
writing, so each reader knows how long it took from the input's arrival until Python
code ran again: that is the wait for the global interpreter lock.

With --lock the readers take one lock around each read. Then they block just as much,
but only one of them in read at a time.
"""

import argparse
import contextlib
import os
import threading
import time

import workers
from marks import mark

# A time in nanoseconds, as written.
MESSAGE_BYTES = 8


def feed(pipes, rounds, pause_s):
    """Writes the time to all pipes, again and again, then ends."""
    workers.name_task("feeder")
    for _ in range(rounds):
        time.sleep(pause_s)
        for _, end in pipes:
            os.write(end, time.monotonic_ns().to_bytes(MESSAGE_BYTES, "little"))


def read(start, lock, waits_ns):
    """Reads until the pipe ends; adds how long each message waited to be seen."""
    workers.name_task("reader")
    while True:
        with lock:
            message = os.read(start, MESSAGE_BYTES)
        now_ns = time.monotonic_ns()
        if not message:
            return
        waits_ns.append(now_ns - int.from_bytes(message, "little"))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readers", type=int, default=4, metavar="N")
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="messages to each")
    parser.add_argument("--pause", type=float, default=0.1, metavar="S", help="between rounds")
    parser.add_argument("--lock", action="store_true", help="one lock around every read")
    parser.add_argument(
        "--idle", action="store_true", help="the main thread waits instead of computing"
    )
    arguments = parser.parse_args()

    pipes = [os.pipe() for _ in range(arguments.readers)]
    feeder = os.fork()
    if feeder == 0:
        feed(pipes, arguments.rounds, arguments.pause)
        os._exit(0)
    for _, end in pipes:
        os.close(end)

    lock = threading.Lock() if arguments.lock else contextlib.nullcontext()
    waits_ns = []
    threads = [
        threading.Thread(target=read, args=(start, lock, waits_ns)) for start, _ in pipes
    ]
    workers.name_task("computes")
    for thread in threads:
        thread.start()
    if not arguments.idle:
        while any(thread.is_alive() for thread in threads):
            sum(number * number for number in range(1000))
    for thread in threads:
        thread.join()
    os.waitpid(feeder, 0)

    for wait_ns in waits_ns:
        mark("seen_after_ns", wait_ns)
    if len(waits_ns) != arguments.readers * arguments.rounds:
        raise SystemExit(f"{len(waits_ns)} messages were read")


if __name__ == "__main__":
    main()
