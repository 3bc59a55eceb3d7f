"""Two threads read from a pipe whose other end a sleeping process has."""

import ctypes
import json
import os
import sys
import threading
import time

libc = ctypes.CDLL(None)


def rename(name):
    PR_SET_NAME = 15
    libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


read_end, write_end = os.pipe()
napper = os.fork()
if napper == 0:
    # Its end must be that of the program, also when that is killed.
    PR_SET_PDEATHSIG = 1
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)
    os.close(read_end)
    rename("napper")
    time.sleep(1000)
    os._exit(0)
os.close(write_end)
tids = {"napper": napper, "pipe": os.fstat(read_end).st_ino}
named = threading.Barrier(3)


def read(name):
    rename(name)
    tids[name] = threading.get_native_id()
    named.wait()
    os.read(read_end, 1)


for name in ["reader-1", "reader-2"]:
    threading.Thread(target=read, args=(name,), daemon=True).start()
named.wait()
print(json.dumps(tids), flush=True)
sys.stdin.readline()
os.kill(napper, 9)
os.waitpid(napper, 0)
print(json.dumps({"done": "end"}), flush=True)
