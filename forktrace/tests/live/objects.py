# Children that each wait for one thing: most of them until they are killed, those that wait for
# a futex for 0.3 s. Prints what it made, and as which process each child ran.
import ctypes, errno, fcntl, json, mmap, os, select, signal, socket, tempfile, threading, time
libc = ctypes.CDLL(None, use_errno=True)
FUTEX = 202 if os.uname().machine == "x86_64" else 98
folder = tempfile.mkdtemp()
children, facts = {}, {}
# What would be unmapped when its last name is gone.
kept = []

def child(what, wait):
    pid = os.fork()
    if pid == 0:
        wait()
        time.sleep(60)
        os._exit(0)
    children[what] = pid

def futex_wait(address):
    "Shared, for 0.3 s."
    time = (ctypes.c_long * 2)(0, 300_000_000)
    libc.syscall(FUTEX, ctypes.c_void_p(address), 0, 0, time, None, 0)

PRIVATE, WORD = 128, 2
FUTEX_WAITV, FUTEX_WAIT = 449, 455

def soon():
    "0.3 s from now."
    at = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 300_000_000
    return (ctypes.c_long * 2)(at // 10**9, at % 10**9)

def futex_waitv(flags, *addresses):
    waiters = (ctypes.c_uint64 * (3 * len(addresses)))()
    for i, address in enumerate(addresses):
        waiters[3 * i + 1 : 3 * i + 3] = [address, WORD | flags]
    libc.syscall(FUTEX_WAITV, waiters, len(addresses), 0, soon(), 1)

def new_futex_wait(address):
    any_bit = ctypes.c_ulong(0xFFFF_FFFF)
    zero = ctypes.c_ulong(0)
    return libc.syscall(FUTEX_WAIT, ctypes.c_void_p(address), zero, any_bit, WORD, soon(), 1)

def read_by_high_number(fd):
    "The table of descriptors grows beyond the one that a process begins with."
    os.dup2(fd, 200)
    os.read(200, 1)

def wait_in(path, offset, pages_before, wait=futex_wait):
    "Maps a file somewhere and waits on its third word."
    kept.append(mmap.mmap(-1, 4096 * (1 + 16 * pages_before)))
    file = os.open(path, os.O_RDWR)
    memory = mmap.mmap(file, 4096, offset=offset)
    kept.append(memory)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + 8
    os.write(1, (json.dumps({"futex": os.getpid(), "address": address}) + "\n").encode())
    wait(address)

a, _a = os.pipe()
b, _b = os.pipe()
facts["pipe_a"], facts["pipe_b"] = os.fstat(a).st_ino, os.fstat(b).st_ino
child("pipe_a_1", lambda: os.read(a, 1))
child("pipe_a_2", lambda: os.read(a, 1))
child("pipe_a_3", lambda: read_by_high_number(a))
child("pipe_b", lambda: os.read(b, 1))

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
text = lambda address: "%s:%d" % address
facts["listening"] = text(listener.getsockname())
facts["local"], facts["remote"] = text(server.getsockname()), text(server.getpeername())
child("tcp_listener", listener.accept)
child("tcp", lambda: server.recv(1))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", 0))
facts["udp"] = text(datagrams.getsockname())
child("udp", lambda: datagrams.recv(1))

facts["unix"] = folder + "/a b"
door = socket.socket(socket.AF_UNIX)
door.bind(facts["unix"])
door.listen()
left, right = socket.socketpair()
facts["peer"] = os.fstat(right.fileno()).st_ino
child("unix_listener", door.accept)
child("unix", lambda: left.recv(1))

event = os.eventfd(0)
timer = libc.timerfd_create(1, 0)
child("eventfd", lambda: os.read(event, 8))
child("timerfd", lambda: os.read(timer, 8))

epoll = select.epoll()
epoll.register(a, select.EPOLLIN)
epoll.register(event, select.EPOLLIN | select.EPOLLET)
facts["epoll"] = sorted([a, event])
child("epoll", epoll.poll)
poll = select.poll()
poll.register(b, select.POLLIN)
poll.register(listener, select.POLLIN)
facts["poll"] = sorted([b, listener.fileno()])
child("poll", poll.poll)

path = folder + "/lo ck\n"
lock, again = os.open(path, os.O_CREAT | os.O_RDWR), os.open(path, os.O_RDWR)
os.unlink(path)
fcntl.flock(lock, fcntl.LOCK_EX)
facts["file"] = path + " (deleted)"
child("file", lambda: fcntl.flock(again, fcntl.LOCK_EX))

FLOCK = 73 if os.uname().machine == "x86_64" else 32

def closed_meanwhile():
    "Its descriptor is another file as soon as it waits."
    path = folder + "/closed"
    lock, again = os.open(path, os.O_CREAT | os.O_RDWR), os.open(path, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    main = threading.get_native_id()
    def close():
        call = None
        while call != str(FLOCK):
            with open(f"/proc/self/task/{main}/syscall") as syscall:
                call = syscall.read().split()[0]
        os.dup2(a, again)
        time.sleep(0.05)
        os.close(lock)
    threading.Thread(target=close).start()
    fcntl.flock(again, fcntl.LOCK_EX)

child("closed", closed_meanwhile)

path = folder + "/shared"
with open(path, "wb") as file:
    file.truncate(3 * 4096)
facts["shared"] = os.stat(path).st_ino
child("shared_1", lambda: wait_in(path, 4096, 0))
child("shared_2", lambda: wait_in(path, 4096, 9))
child("shared_other", lambda: wait_in(path, 8192, 0))
word = (ctypes.c_int * 3)()
facts["private"] = ctypes.addressof(word)
child("private_1", lambda: futex_wait(ctypes.addressof(word)))
child("private_2", lambda: futex_wait(ctypes.addressof(word)))
child("shared_one_of_one", lambda: wait_in(path, 4096, 5, lambda at: futex_waitv(0, at)))
three = [ctypes.addressof(word) + 4 * i for i in range(3)]
child("private_any_of_three", lambda: futex_waitv(PRIVATE, *three))
# Since Linux 6.7.
libc.syscall(FUTEX_WAIT, None, 0, 0, 0, None, 0)
facts["new_futex_wait"] = int(ctypes.get_errno() != errno.ENOSYS)
if facts["new_futex_wait"]:
    child("shared_new", lambda: wait_in(path, 4096, 3, new_futex_wait))

def asleep(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(") ")[2][0] == "S"

while not all(map(asleep, children.values())):
    time.sleep(0.01)
time.sleep(1)
for pid in children.values():
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
for name in os.listdir(folder):
    os.unlink(folder + "/" + name)
os.rmdir(folder)
os.write(1, (json.dumps({"children": children, "facts": facts}) + "\n").encode())
