#!/usr/bin/env python3
"""Creates threads or forks processes that do nothing, and joins each before the next.

The time of one is what its parent sees: from before the creation until the join has
returned. --heap-mib writes to so much memory first: a fork copies its page tables.
"""

import argparse
import os
import resource
import threading
import time

from marks import mark


def nothing():
    """What the new task does."""


def by_thread():
    """Creates a thread and joins it."""
    thread = threading.Thread(target=nothing)
    thread.start()
    thread.join()


def by_fork():
    """Forks a process and reaps it."""
    child = os.fork()
    if child == 0:
        nothing()
        # Only the child: its parent goes on to wait for it.
        os._exit(0)
    os.waitpid(child, 0)


def cpu_ns():
    """CPU time of this process and of the children that it has reaped."""
    reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + round((reaped.ru_utime + reaped.ru_stime) * 1e9)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--create", choices=["threads", "processes"], default="threads")
    parser.add_argument("--count", type=int, default=200, metavar="N")
    parser.add_argument("--heap-mib", type=int, default=0, metavar="MIB")
    arguments = parser.parse_args()

    # A bytearray is zeroed by the allocator, which touches nothing: write to each page.
    heap = bytearray(arguments.heap_mib << 20)
    heap[::4096] = b"x" * len(heap[::4096])
    times = []

    create = by_thread if arguments.create == "threads" else by_fork
    before_ns = cpu_ns()
    for _ in range(arguments.count):
        start_ns = time.monotonic_ns()
        create()
        end_ns = time.monotonic_ns()
        times.append((end_ns, end_ns - start_ns))
    spent_ns = cpu_ns() - before_ns

    for end_ns, ns in times:
        mark("create_and_join_ns", ns, t=end_ns)
    mark("cpu_ns", spent_ns / arguments.count)


if __name__ == "__main__":
    main()
