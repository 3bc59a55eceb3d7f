#!/usr/bin/env python3
"""Threads or processes that only compute, for a fixed time.

    compute.py --by threads --count 2 --seconds 0.5

Each makes no system call and shares nothing but, for threads, the
interpreter. The workers start together; the main thread waits for them.
"""

import argparse
import multiprocessing
import threading
import time


def compute(start, seconds):
    start.wait()
    end = time.monotonic() + seconds
    number = 1
    while time.monotonic() < end:
        for _ in range(2000):
            number = number * 1103515245 % 2147483647


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--by", choices=["threads", "processes"], default="threads")
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()

    if options.by == "threads":
        worker, barrier = threading.Thread, threading.Barrier
    else:
        context = multiprocessing.get_context("fork")
        worker, barrier = context.Process, context.Barrier
    start = barrier(options.count)
    workers = [
        worker(target=compute, args=(start, options.seconds))
        for _ in range(options.count)
    ]
    for each in workers:
        each.start()
    for each in workers:
        each.join()


if __name__ == "__main__":
    main()
