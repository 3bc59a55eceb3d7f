"""Tasks that can't go on, each kind for another reason, until something ends them.

Prints one line of JSON: the tids of those that can't.
"""

import ctypes
import fcntl
import json
import mmap
import multiprocessing
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)


def child(run):
    """The pid of a child that does this, and ends with its parent."""
    pid = os.fork()
    if pid == 0:
        libc.prctl(1, signal.SIGKILL)
        run()
        os._exit(0)
    return pid


def thread(run):
    """The tid of a thread that does this."""
    tids = []
    begun = threading.Event()

    def begin():
        tids.append(threading.get_native_id())
        begun.set()
        run()

    threading.Thread(target=begin, daemon=True).start()
    begun.wait()
    return tids[0]


def tell(*tids):
    print(json.dumps({"tids": tids}), flush=True)


def pipe():
    """A parent waits for its child, which writes into a pipe that only the parent reads."""
    writer = subprocess.Popen(["cat", "/dev/zero"], stdout=subprocess.PIPE)
    tell(os.getpid(), writer.pid)
    writer.wait()


def queue():
    """A parent joins a child before it takes what that has put into a queue: the child's main
    thread waits for the one that feeds the pipe."""
    fork = multiprocessing.get_context("fork")
    items = fork.Queue()
    ours, theirs = fork.Pipe()

    def put():
        items.put(bytes(10_000_000))
        theirs.send([os.getpid(), items._thread.native_id])

    process = fork.Process(target=put)
    process.start()
    tell(os.getpid(), *ours.recv())
    process.join()


def deaf():
    """The same, and no Ctrl-C ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe()


def sockets():
    """Each of two processes waits for the other one's first word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    mine, other = socket.socketpair()

    def second():
        mine.close()
        other.recv(1)

    pid = child(second)
    other.close()
    tell(os.getpid(), pid)
    mine.recv(1)


def processes():
    """Two processes, two mutexes in shared memory, taken the other way round."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    memory = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    attributes = ctypes.create_string_buffer(64)
    libc.pthread_mutexattr_init(attributes)
    libc.pthread_mutexattr_setpshared(attributes, 1)
    locks = [ctypes.c_void_p(address + 128 * i) for i in range(2)]
    for lock in locks:
        libc.pthread_mutex_init(lock, attributes)
    has = [os.pipe() for _ in range(2)]

    def take(own):
        libc.pthread_mutex_lock(locks[own])
        os.write(has[own][1], b"x")
        os.read(has[1 - own][0], 1)
        libc.pthread_mutex_lock(locks[1 - own])

    pid = child(lambda: take(1))
    tell(os.getpid(), pid)
    take(0)


def forked():
    """A lock that another thread had at the fork; the parent's other thread ticks."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    lock = ctypes.create_string_buffer(64)
    has = threading.Event()

    def tick():
        libc.pthread_mutex_lock(lock)
        has.set()
        while True:
            time.sleep(0.05)

    thread(tick)
    has.wait()
    pid = child(lambda: libc.pthread_mutex_lock(lock))
    tell(pid)
    os.waitpid(pid, 0)


def fault():
    """A page fault that its handler reads and never answers."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    number = 323 if os.uname().machine == "x86_64" else 282
    # O_CLOEXEC; include/uapi/linux/userfaultfd.h
    fd = libc.syscall(number, 0o2000000)
    memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(fd, 0xC018AA3F, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
    fcntl.ioctl(fd, 0xC020AA00, bytearray(struct.pack("QQQQ", address, 4096, 1, 0)))

    def read():
        while True:
            os.read(fd, 32)

    pager = thread(read)
    guest = thread(lambda: libc.memset(ctypes.c_void_p(address), 1, 1))
    tell(pager, guest)
    os.read(os.pipe()[0], 1)


def fuse():
    """The server of a file system looks for a file on it, which only it could answer."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # In a mount namespace of its own, so that the mount goes when the last of them does:
    # CLONE_NEWNS, MS_REC | MS_PRIVATE.
    libc.unshare(0x20000)
    libc.mount(None, b"/", None, 0x44000, None)
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"self", sys.argv[2].encode(), b"fuse.self", 0, options.encode()):
        sys.exit(os.strerror(ctypes.get_errno()))
    user = child(lambda: (os.close(fd), os.stat(sys.argv[2] + "/file")))
    tell(os.getpid(), user)
    # include/uapi/linux/fuse.h: FUSE_INIT has its answer, nothing else has.
    while struct.unpack_from("<II", request := os.read(fd, 1 << 17))[1] == 26:
        body = struct.pack("<4I2H2I2H8I", 7, 31, 65536, 1 << 18, 16, 12, 65536, 1, 0, 0, *[0] * 8)
        unique = struct.unpack_from("<Q", request, 8)[0]
        os.write(fd, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)
    # The look-up of the same name would wait for the first one, whatever comes.
    os.stat(sys.argv[2] + "/other")


{f.__name__: f for f in (pipe, queue, deaf, sockets, processes, forked, fault, fuse)}[sys.argv[1]]()
