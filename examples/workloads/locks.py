#!/usr/bin/env python3
"""Takes and releases a lock, over and over: between threads or between processes.

Threads use threading.Lock, processes multiprocessing.Lock. With one worker the lock
is always free; with more the workers want it all the time.
"""

import argparse
import threading
import time

import workers
from marks import mark

BATCHES = 20


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--between", choices=["threads", "processes"], default="threads")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--count", type=int, default=100_000, metavar="N", help="for each worker")
    arguments = parser.parse_args()

    if arguments.between == "threads":
        lock = threading.Lock()
        together = threading.Barrier(arguments.workers)
    else:
        lock = workers.FORK.Lock()
        together = workers.FORK.Barrier(arguments.workers)

    def job():
        workers.name_task("worker")
        batch = arguments.count // BATCHES
        together.wait()
        for _ in range(BATCHES):
            start_ns = time.monotonic_ns()
            for _ in range(batch):
                with lock:
                    pass
            mark("ns_each", (time.monotonic_ns() - start_ns) / batch)

    workers.run(arguments.between, [job] * arguments.workers)


if __name__ == "__main__":
    main()
