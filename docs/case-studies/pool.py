"""A pool of four threads whose jobs share a lock: each holds it while it writes a file to disk."""
import json, os, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor

lock = threading.Lock()
waited = {}  # by tid: time to get the lock, time in it

def job(file):
    tid = threading.get_native_id()
    asked = time.monotonic_ns()
    with lock:
        got = time.monotonic_ns()
        file.seek(0)
        file.write(b"x" * 65536)
        os.fsync(file.fileno())
        synced = time.monotonic_ns()
    own = waited.setdefault(tid, [0, 0, 0])
    own[0] += 1
    own[1] += got - asked
    own[2] += synced - got
    time.sleep(0.002)

with tempfile.TemporaryFile(dir=".", buffering=0) as file:
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="pool") as pool:
        for _ in range(400):
            pool.submit(job, file)
print(json.dumps({t: {"jobs": a, "lock_ms": b / 1e6, "fsync_ms": c / 1e6} for t, (a, b, c) in waited.items()}))
