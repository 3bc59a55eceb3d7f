"""Runs functions side by side, each in a thread or in a process of its own."""

import multiprocessing
import threading

# Forked, so that the workers have what their parent had, whatever this Python's
# default is.
FORK = multiprocessing.get_context("fork")


def name_task(name):
    """Names the calling thread (or process), for the kernel and so for traces."""
    with open("/proc/thread-self/comm", "w") as comm:
        comm.write(name)


def run(kind, jobs):
    """Runs all jobs at once, as `kind` ("threads" or "processes"), until they end.

    A job is a function without arguments. Raises when one of them failed.
    """
    failures = []
    workers = [_start(kind, job, failures) for job in jobs]
    for worker in workers:
        worker.join()
    codes = [getattr(worker, "exitcode", 0) for worker in workers]
    if failures or any(codes):
        raise SystemExit(f"a worker failed: {failures or codes}")


def _start(kind, job, failures):
    if kind == "processes":
        worker = FORK.Process(target=job)
    else:
        worker = threading.Thread(target=_noting_failure, args=(job, failures))
    worker.start()
    return worker


def _noting_failure(job, failures):
    try:
        job()
    except BaseException as failure:
        failures.append(failure)
        raise
