"""Tasks that wait for good, each for another kind of thing, until they are killed.

Prints one line: of each waiting task, who could end its wait.
"""

import ctypes
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import sys
import tempfile
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
expected = []
folder = sys.argv[1]
kernel_tells_holders = sys.argv[2] == "holders"


def expect(waits, kind, tasks, outside=False, foreign=None):
    expected.append(
        {"waits": waits, "kind": kind, "tasks": tasks, "outside": outside, "foreign": foreign}
    )


def child(wait):
    """The pid of a child that waits so."""
    pid = os.fork()
    if pid == 0:
        end_with_parent()
        wait()
        time.sleep(1000)
    return pid


def end_with_parent():
    libc.prctl(1, 9)


def forever():
    time.sleep(1000)


def thread(run):
    """The tid of a thread that does this, without Python's lock."""
    tids = []

    def begin():
        tids.append(threading.get_native_id())
        run()

    threading.Thread(target=begin, daemon=True).start()
    while not tids:
        time.sleep(0.001)
    return tids[0]


def mutex(address, shared=False):
    if shared:
        attributes = ctypes.create_string_buffer(64)
        libc.pthread_mutexattr_init(attributes)
        libc.pthread_mutexattr_setpshared(attributes, 1)
        libc.pthread_mutex_init(ctypes.c_void_p(address), attributes)
    return ctypes.c_void_p(address)


def of_a_child():
    def parent():
        pid = child(forever)
        print(pid, file=out, flush=True)
        os.waitpid(pid, 0)

    read, write = os.pipe()
    out = os.fdopen(write, "w")
    pid = child(parent)
    grandchild = int(os.fdopen(read).readline())
    expect(pid, "Child", [grandchild])


def of_a_vforked_child():
    # CLONE_VFORK | SIGCHLD: without the memory of the parent.
    read, write = os.pipe()

    def parent():
        number = 56 if os.uname().machine == "x86_64" else 220
        if libc.syscall(number, 0x4000 | 17, 0, 0, 0, 0) == 0:
            end_with_parent()
            os.write(write, str(libc.getpid()).encode() + b"\n")
            forever()

    pid = child(parent)
    expect(pid, "Child", [int(os.fdopen(read).readline())])


def of_a_pipe():
    read, write = os.pipe()
    holder = child(forever)

    def fill():
        os.close(read)
        while True:
            os.write(write, bytes(1 << 16))

    waits = child(fill)
    os.close(read)
    os.close(write)
    expect(waits, "OtherEnd", [holder])


def of_a_connection(pair):
    ours, theirs = pair()

    def hold():
        theirs.close()
        forever()

    def wait():
        ours.close()
        theirs.recv(1)

    holder, waits = child(hold), child(wait)
    ours.close()
    theirs.close()
    expect(waits, "OtherEnd", [holder])


def loopback():
    listener = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    listener.close()
    return ours, theirs


def of_a_set():
    read, write = os.pipe()
    ours, theirs = socket.socketpair()

    def hold():
        os.close(read)
        theirs.close()
        forever()

    def wait():
        os.close(write)
        ours.close()
        poll = select.poll()
        poll.register(read, select.POLLIN)
        poll.register(theirs, select.POLLIN)
        poll.poll()

    holder, waits = child(hold), child(wait)
    for fd in read, write:
        os.close(fd)
    ours.close()
    theirs.close()
    expect(waits, "OtherEnd", [holder])


def of_a_counter():
    counter = os.eventfd(0)
    holder = child(forever)
    waits = child(lambda: os.eventfd_read(counter))
    os.close(counter)
    expect(waits, "Shares", [holder])


def of_a_file_lock(lock, name):
    path = os.path.join(folder, name)
    held, said = os.pipe()

    def hold():
        file = open(path, "w")
        lock(file, fcntl.LOCK_EX)
        os.write(said, b"x")
        forever()

    holder = child(hold)
    os.read(held, 1)
    waits = child(lambda: lock(open(path, "w"), fcntl.LOCK_EX))
    os.close(held)
    os.close(said)
    expect(waits, "FileLock", [holder])


def of_a_shared_mutex():
    memory = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    lock = mutex(address, shared=True)
    held, said = os.pipe()

    def hold():
        libc.pthread_mutex_lock(lock)
        os.write(said, b"x")
        forever()

    holder = child(hold)
    os.read(held, 1)
    waits = child(lambda: libc.pthread_mutex_lock(lock))
    os.close(held)
    os.close(said)
    expect(waits, "Owner", [holder])


def of_a_copied_mutex():
    """Locked by a thread when its process forks."""
    memory = ctypes.create_string_buffer(64)
    lock = mutex(ctypes.addressof(memory))
    held = []

    def hold():
        libc.pthread_mutex_lock(lock)
        held.append(memory)
        forever()

    owner = thread(hold)
    while not held:
        time.sleep(0.001)
    waits = child(lambda: libc.pthread_mutex_lock(lock))
    expect(waits, "Owner", [], foreign=owner)


def of_a_joined_thread():
    read, write = os.pipe()

    def wait():
        function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        tids = []

        @function
        def run(_):
            tids.append(threading.get_native_id())
            forever()

        handle = ctypes.c_ulong()
        libc.pthread_create(ctypes.byref(handle), None, run, None)
        while not tids:
            time.sleep(0.001)
        os.write(write, f"{tids[0]}\n".encode())
        libc.pthread_join(handle, None)

    waits = child(wait)
    expect(waits, "Joined", [int(os.fdopen(read).readline())])


def of_a_page():
    """A page fault that nobody answers."""
    number = 323 if os.uname().machine == "x86_64" else 282
    read, write = os.pipe()

    def wait():
        # O_CLOEXEC; include/uapi/linux/userfaultfd.h
        fd = libc.syscall(number, 0o2000000)
        memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        fcntl.ioctl(fd, 0xC018AA3F, bytearray(struct.pack("QQQ", 0xAA, 0, 0)))
        fcntl.ioctl(fd, 0xC020AA00, bytearray(struct.pack("QQQQ", address, 4096, 1, 0)))
        pager = thread(forever)
        os.write(write, f"{pager}\n".encode())
        libc.memset(ctypes.c_void_p(address), 1, 1)

    waits = child(wait)
    expect(waits, "Server", [int(os.fdopen(read).readline())])


def of_a_kernel_lock():
    """Two readers of one terminal: the first has the lock of its readers while it waits."""
    read, write = os.pipe()

    def wait():
        _, terminal = os.openpty()
        readers = []
        for _ in range(2):
            readers.append(thread(lambda: libc.read(terminal, ctypes.create_string_buffer(1), 1)))
            until_in_call(readers[-1], terminal)
        os.write(write, f"{readers[0]} {readers[1]}\n".encode())
        forever()

    child(wait)
    holder, waits = os.fdopen(read).readline().split()
    if kernel_tells_holders:
        expect(int(waits), "KernelLock", [int(holder)])


def until_in_call(tid, argument):
    """Until a thread sleeps in a call with this first argument."""
    while True:
        with open(f"/proc/self/task/{tid}/syscall") as file:
            words = file.read().split()
        if len(words) > 1 and int(words[1], 16) == argument:
            return
        time.sleep(0.001)


def of_a_file_system():
    """A FUSE daemon that answers nothing but the first request."""
    mount = tempfile.mkdtemp(dir=folder)
    read, write = os.pipe()

    def serve():
        fd = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
        failed = libc.mount(b"silent", mount.encode(), b"fuse.silent", 0, options)
        os.write(write, b"n" if failed else b"y")
        request = os.read(fd, 1 << 17)
        (unique,) = struct.unpack_from("<Q", request, 8)
        body = struct.pack("<4I2H2I2H8I", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, *[0] * 8)
        os.write(fd, struct.pack("<IiQ", 16 + len(body), 0, unique) + body)
        forever()

    daemon = child(serve)
    assert os.read(read, 1) == b"y", "no FUSE"
    waits = child(lambda: os.stat(os.path.join(mount, "file")))
    expect(waits, "Server", [daemon])


# In a mount namespace of its own, so that nothing stays mounted.
libc.unshare(0x20000)
libc.mount(b"none", b"/", None, 0x44000, None)
of_a_child()
of_a_vforked_child()
of_a_pipe()
of_a_connection(socket.socketpair)
of_a_connection(loopback)
of_a_set()
of_a_counter()
of_a_file_lock(fcntl.flock, "flock")
of_a_file_lock(fcntl.lockf, "fcntl")
of_a_shared_mutex()
of_a_joined_thread()
of_a_page()
of_a_kernel_lock()
of_a_file_system()
of_a_copied_mutex()
print(json.dumps({"waits": expected}), flush=True)
forever()
