# Children that each wait for one thing: most of them until they are killed, those that wait for
# a futex for 0.3 s. Prints what it made, and as which process each child ran.
import ctypes, fcntl, json, mmap, os, select, signal, socket, tempfile, time
libc = ctypes.CDLL(None)
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

def wait_in(path, offset, pages_before):
    "Maps a file somewhere and waits on its third word."
    kept.append(mmap.mmap(-1, 4096 * (1 + 16 * pages_before)))
    file = os.open(path, os.O_RDWR)
    memory = mmap.mmap(file, 4096, offset=offset)
    kept.append(memory)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + 8
    os.write(1, (json.dumps({"futex": os.getpid(), "address": address}) + "\n").encode())
    futex_wait(address)

a, _a = os.pipe()
b, _b = os.pipe()
facts["pipe_a"], facts["pipe_b"] = os.fstat(a).st_ino, os.fstat(b).st_ino
child("pipe_a_1", lambda: os.read(a, 1))
child("pipe_a_2", lambda: os.read(a, 1))
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

path = folder + "/shared"
with open(path, "wb") as file:
    file.truncate(3 * 4096)
facts["shared"] = os.stat(path).st_ino
child("shared_1", lambda: wait_in(path, 4096, 0))
child("shared_2", lambda: wait_in(path, 4096, 9))
child("shared_other", lambda: wait_in(path, 8192, 0))
word = ctypes.c_int(0)
facts["private"] = ctypes.addressof(word)
child("private_1", lambda: futex_wait(ctypes.addressof(word)))
child("private_2", lambda: futex_wait(ctypes.addressof(word)))

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
