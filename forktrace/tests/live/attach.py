"""A target for `attach`: it does what it is told, a word a line, and says when it is done.

Times are CLOCK_MONOTONIC. It begins with a thread that waits for a pipe, one that spins and
one that sleeps, and says so once each is where it shall be.
"""

import ctypes
import json
import os
import sys
import threading
import time

libc = ctypes.CDLL(None)


def sleeps_in(tid, call):
    """Waits until a thread is in a system call, which the kernel tells."""
    while True:
        with open(f"/proc/self/task/{tid}/syscall", encoding="ascii") as file:
            if file.read().startswith(f"{call} "):
                return
        time.sleep(0.001)


def wait_for_pipe():
    os.read(pipe[0], 1)


def spin():
    while not over:
        pass


def rest():
    time.sleep(10_000)


def begin(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def say(**words):
    print(json.dumps(words), flush=True)


def churn():
    """Threads and processes of no length, as fast as they come."""
    while not over:
        threads = [begin(lambda: None) for _ in range(4)]
        for thread in threads:
            thread.join()
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)


pipe = os.pipe()
over = False
READ = 0 if os.uname().machine == "x86_64" else 63
reader = begin(wait_for_pipe)
spinner = begin(spin) if "spin" in sys.argv else None
sleeper = begin(rest)
sleeps_in(reader.native_id, READ)
say(
    pid=os.getpid(),
    reader=reader.native_id,
    sleeper=sleeper.native_id,
    spinner=spinner and spinner.native_id,
    tasks=len(os.listdir("/proc/self/task")),
)
for line in sys.stdin:
    word = line.strip()
    if word == "threads":
        for _ in range(100):
            begin(lambda: None).join()
    elif word == "processes":
        for _ in range(50):
            child = os.fork()
            if child == 0:
                os._exit(3)
            os.waitpid(child, 0)
    elif word == "churn":
        churner = begin(churn)
    elif word == "write":
        os.write(pipe[1], b"x")
        reader.join()
    elif word == "exec":
        # By a thread that is not the first: it becomes that.
        begin(lambda: os.execv("/bin/cat", ["cat"]))
        time.sleep(10_000)
    elif word == "end":
        over = True
        say(done="end")
        break
    say(done=word)
os._exit(0)
