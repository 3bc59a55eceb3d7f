#!/usr/bin/env python3
"""Processes that count on one multiprocessing.Value, with its lock or without.

Adding one is a read and a write. Without a lock around both, another process can
write between them, and its count is lost. (The Value's own lock, which each access
takes, is around the read and around the write, but not around both.)

Threads are no arm of this: since 3.10 CPython does not change threads in the middle
of a plain +=, so a count that nothing was lost from would prove nothing.
"""

import argparse

import workers
from marks import mark


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--count", type=int, default=50_000, metavar="N", help="for each worker")
    parser.add_argument("--lock", action="store_true", help="hold the lock over read and write")
    arguments = parser.parse_args()

    counter = workers.FORK.Value("q", 0)
    together = workers.FORK.Barrier(arguments.workers)

    def locked():
        together.wait()
        for _ in range(arguments.count):
            with counter.get_lock():
                counter.value += 1

    def unlocked():
        together.wait()
        for _ in range(arguments.count):
            counter.value += 1

    job = locked if arguments.lock else unlocked
    workers.run("processes", [job] * arguments.workers)
    mark("expected", arguments.workers * arguments.count)
    mark("counted", counter.value)


if __name__ == "__main__":
    main()
