#!/usr/bin/env python3
"""Workers that do nothing but compute, in threads or in processes.

No worker reads, sleeps or takes a lock of its own. Threads that nevertheless block
each other do so over something that Python itself holds.
"""

import argparse
import time

import workers
from marks import mark


def compute(until_ns):
    """Computes until then; returns how many steps it made."""
    steps = 0
    total = 0
    while time.monotonic_ns() < until_ns:
        for number in range(1000):
            total += number * number
        steps += 1
    return steps


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--by", choices=["threads", "processes"], default="threads")
    parser.add_argument("--count", type=int, default=2, metavar="N")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S")
    arguments = parser.parse_args()

    end_ns = time.monotonic_ns() + int(arguments.seconds * 1e9)

    def worker():
        workers.name_task("worker")
        mark("steps", compute(end_ns))

    workers.run(arguments.by, [worker] * arguments.count)


if __name__ == "__main__":
    main()
