"""A service for `watch`: it does what it is told, a word a line, and says when it is done.

Four workers wait for jobs and do each under one lock. A stall is a job that waits for a pipe
while the others wait for the lock, for as long as it shall.
"""

import ctypes
import json
import os
import queue
import sys
import threading

WORKERS = 4
jobs = queue.SimpleQueue()
done = queue.SimpleQueue()
lock = threading.Lock()
pipe = os.pipe()


def work():
    while True:
        job = jobs.get()
        with lock:
            job()
        done.put(None)


def request():
    sum(range(1000))


def stall():
    os.read(pipe[0], 1)


def serve(job, count):
    for _ in range(count):
        jobs.put(job)


def say(**words):
    print(json.dumps(words), flush=True)


if len(sys.argv) > 1:
    PR_SET_NAME = 15
    ctypes.CDLL(None).prctl(PR_SET_NAME, sys.argv[1].encode())
for _ in range(WORKERS):
    threading.Thread(target=work, daemon=True).start()
say(pid=os.getpid())
for line in sys.stdin:
    word = line.strip()
    if word == "load":
        serve(request, 500)
        for _ in range(500):
            done.get()
    elif word == "stall":
        serve(stall, 1)
        serve(request, WORKERS - 1)
    elif word == "go on":
        os.write(pipe[1], b"x")
        for _ in range(WORKERS):
            done.get()
    say(done=word)
    if word == "end":
        break
