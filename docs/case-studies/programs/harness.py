"""Starts programs under forktrace, drives a load, and ends them as their users do."""
import os, shutil, signal, socket, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "sources"
CASES = {}


class Spoilt(Exception):
    """The machine, not forktrace, is why this run shows nothing: run it again."""


class Missing(Exception):
    """What the case needs is not here and can't be had."""


def case(name, needs=(), serves=False):
    """Enters a function as a case. Its first line of documentation says what is planted.

    `serves`: it waits until its program is ready, before anything is planted.
    """

    def enter(function):
        CASES[name] = Case(name, list(needs), serves, function)
        return function

    return enter


class Case:
    def __init__(self, name, needs, serves, function):
        self.name, self.needs, self.serves, self.function = name, needs, serves, function

    @property
    def planted(self):
        return (self.function.__doc__ or "").split("\n")[0]

    def missing(self):
        return [it for it in self.needs if not tool(it)]


def tool(name):
    """Path of a program, also where Debian keeps those that are not for users."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if not found:
        clusters = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        found = str(clusters[-1]) if clusters else None
    return found


class Run:
    """One case that runs: a folder of its own, its processes, and the trace.

    `attach`: forktrace does not start the program, but is attached to it: once it is ready, if
    the case waits for that, else before its first instruction.
    """

    def __init__(self, forktrace, folder, attach=False, serves=False):
        self.forktrace, self.folder = forktrace, Path(folder)
        self.attach, self.serves = attach, serves
        self.trace = self.folder / "trace.ft"
        # forktrace, and with `attach` the program that it was attached to.
        self.tracer = self.attached_to = None
        self.started = []

    def free_port(self):
        with socket.socket() as it:
            it.bind(("127.0.0.1", 0))
            return it.getsockname()[1]

    def build(self, *command):
        """Compiles something; what the compiler says is shown if that fails."""
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{command[0]} failed: {done.stderr[-800:]}")

    def trace_program(self, *command, user=None, env=None, stdin=subprocess.DEVNULL, **options):
        """Starts a program under forktrace; gives its process, which is forktrace."""
        self.to_save = ["--save", self.trace, "-o", self.folder / "report.txt"]
        self.output = self.folder / "output.txt"
        options.update(stdin=stdin, env={**os.environ, **(env or {})})
        if self.attach:
            return self.start_and_attach(command, user, options)
        as_user = ["-u", user] if user else []
        self.tracer = self.start_said(
            self.forktrace, "run", *self.to_save, *as_user, "--", *command, **options)
        return self.tracer

    def start_and_attach(self, command, user, options):
        """Starts a program that forktrace is attached to, now or when it is ready."""
        if user:
            options.update(user=user, group=user, extra_groups=[])
        if self.serves:
            self.attached_to = self.start_said(*command, **options)
        else:
            # The shell's first act is to stop; forktrace sees the program from its exec on.
            stopped = ["sh", "-c", 'kill -STOP $$; exec "$@"', "sh", *command]
            self.attached_to = self.start_said(*stopped, **options)
            os.waitid(os.P_PID, self.attached_to.pid, os.WSTOPPED | os.WNOWAIT)
            self.attach_now()
            os.kill(self.attached_to.pid, signal.SIGCONT)
        return self.attached_to

    def attach_now(self):
        """To the program and to the processes that it has by now."""
        for _ in range(5):
            of_all = [it for pid in with_descendants(self.attached_to.pid) for it in ("-p", pid)]
            said_before = len(self.said())
            self.tracer = self.start_said(
                self.forktrace, "attach", *of_all, *self.to_save, stdin=subprocess.DEVNULL)
            try:
                self.until("attached", lambda: "forktrace: attached to" in self.said())
                return
            except Spoilt:
                # One of them ended meanwhile.
                if "there is no process" not in self.said()[said_before:]:
                    raise
        raise Spoilt(f"never attached: {self.said()[-800:]}")

    def start_said(self, *command, **options):
        """Starts something whose words are kept."""
        with open(self.output, "ab") as output:
            return self.start(*command, stdout=output, stderr=output, **options)

    def start(self, *command, **options):
        options.setdefault("cwd", self.folder)
        process = subprocess.Popen([str(it) for it in command], **options)
        self.started.append(process)
        return process

    def program(self):
        """Pid of the program: the child of forktrace that is not forktrace itself."""
        if self.attached_to:
            return self.attached_to.pid
        own = os.path.realpath(f"/proc/{self.tracer.pid}/exe")
        while self.tracer.poll() is None:
            for child in children(self.tracer.pid):
                try:
                    if os.path.realpath(f"/proc/{child}/exe") != own:
                        return child
                except OSError:
                    pass
            time.sleep(0.01)
        raise Spoilt(f"it ended at once: {self.said()[-800:]}")

    def said(self):
        return self.output.read_text(errors="replace")

    def until(self, what, condition, seconds=30):
        """Waits until a condition holds; it may not, but then the run is over."""
        end = time.monotonic() + seconds
        while True:
            try:
                held = condition()
            except (OSError, subprocess.SubprocessError):
                held = None
            if held:
                return held
            watched = self.tracer or self.attached_to
            if watched.poll() is not None or time.monotonic() > end:
                raise Spoilt(f"never {what}: {self.said()[-800:]}")
            time.sleep(0.02)

    def until_ready(self, what, condition):
        """The same of what says that nothing but the load is missing, of one that serves."""
        assert self.serves, "the case is to be entered with serves=True"
        self.until(what, condition)
        if self.attach:
            self.attach_now()

    def until_listening(self, port):
        def connects():
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        self.until_ready(f"listening on {port}", connects)

    def end(self, number=signal.SIGTERM):
        """Ends the program as its users do, and waits for the report."""
        try:
            os.kill(self.program(), number)
        except (Spoilt, ProcessLookupError):
            pass
        return self.wait()

    def wait(self, seconds=60):
        try:
            if self.attached_to:
                self.attached_to.wait(seconds)
            return self.tracer.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Spoilt(f"it did not end within {seconds} s") from None

    def clean_up(self):
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def children(pid):
    """Children of a process's main thread, by age."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found = [int(it) for it in words]
        for thread in Path(f"/proc/{pid}/task").iterdir():
            if int(thread.name) != pid:
                found += [int(it) for it in (thread / "children").read_text().split()]
        return found
    except OSError:
        return []


def with_descendants(pid):
    """A process and all below it."""
    return [pid, *(it for child in children(pid) for it in with_descendants(child))]


def output(*command, **options):
    """What a short command prints."""
    return subprocess.run([str(it) for it in command], capture_output=True, text=True,
                          timeout=300, **options).stdout


def http(port, path="/", host="127.0.0.1"):
    """One request on a connection of its own; gives how long it took, in ms."""
    begin = time.monotonic()
    with socket.create_connection((host, port), 30) as it:
        it.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := it.recv(65536):
            answer += part
    if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
        raise Spoilt(f"{path}: {answer[:200]!r}")
    return 1000 * (time.monotonic() - begin)


@contextmanager
def new_run(forktrace, attach=False, serves=False):
    """A run in a folder that other users can look into, which is removed after it."""
    folder = tempfile.mkdtemp(prefix="forktrace-programs-")
    os.chmod(folder, 0o755)
    run = Run(forktrace, folder, attach, serves)
    try:
        yield run
    finally:
        run.clean_up()
        shutil.rmtree(folder, ignore_errors=True)
