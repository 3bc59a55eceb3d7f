#!/usr/bin/env python3
"""What a lock costs: between two threads and between two processes, in turn.

Two tasks on one CPU take and release locks, --operations times each: threads those of
the module threading, processes those of multiprocessing. By themselves: one has the
lock to itself, while the other one waits until it is done. With --contended they take
turns: each waits for a lock that only the other one releases.

The two kinds alternate, --rounds times each. What is measured is CPU time, of both
tasks together: who else uses the CPUs is not in it.
"""

import argparse
import os
import threading
import time

import workers
from marks import mark

TASKS = 2


def by_themselves(locks, me, operations):
    """Takes a lock that nobody else wants."""
    lock = locks[0]
    for _ in range(operations):
        lock.acquire()
        lock.release()


def in_turns(locks, me, operations):
    """Waits for the other one, and lets it go on."""
    mine, others = locks[me], locks[1 - me]
    for _ in range(operations):
        mine.acquire()
        others.release()


def measure(between, contended, operations):
    """CPU time for an operation, in nanoseconds."""
    make = threading if between == "threads" else workers.FORK
    locks = [make.Lock() for _ in range(TASKS)]
    turns = [make.Lock() for _ in range(TASKS)]
    together = make.Barrier(TASKS)
    # Shared by threads as by processes.
    spent_ns = workers.FORK.RawArray("q", TASKS)
    if contended:
        locks[1].acquire()
    turns[1].acquire()

    def task(me):
        workers.name_task(f"locks-{me}")
        together.wait()
        if not contended:
            # The second one begins when the first one is done.
            turns[me].acquire()
        begin_ns = time.thread_time_ns()
        (in_turns if contended else by_themselves)(locks, me, operations)
        spent_ns[me] = time.thread_time_ns() - begin_ns
        if not contended and me == 0:
            turns[1].release()

    workers.run(between, [lambda: task(0), lambda: task(1)])
    return sum(spent_ns) / (TASKS * operations)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contended", action="store_true", help="they wait for each other")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--operations", type=int, default=5000, metavar="N", help="by each")
    parser.add_argument(
        "--threads-only", action="store_true", help="measure threads in place of the processes too"
    )
    arguments = parser.parse_args()

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    kinds = [("thread_ns", "threads"), ("process_ns", "processes")]
    for number in range(arguments.rounds):
        for name, between in kinds:
            if arguments.threads_only:
                between = "threads"
            mark(name, measure(between, arguments.contended, arguments.operations), round=number)


if __name__ == "__main__":
    main()
