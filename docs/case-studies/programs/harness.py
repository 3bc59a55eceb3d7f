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


def case(name, needs=()):
    """Enters a function as a case. Its first line of documentation says what is planted."""

    def enter(function):
        CASES[name] = Case(name, list(needs), function)
        return function

    return enter


class Case:
    def __init__(self, name, needs, function):
        self.name, self.needs, self.function = name, needs, function

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
    """One case that runs: a folder of its own, its processes, and the trace."""

    def __init__(self, forktrace, folder):
        self.forktrace, self.folder = forktrace, Path(folder)
        self.trace = self.folder / "trace.ft"
        self.tracer = None
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
        options_of_forktrace = ["--save", self.trace, "-o", self.folder / "report.txt"]
        if user:
            options_of_forktrace += ["-u", user]
        self.output = self.folder / "output.txt"
        with open(self.output, "ab") as output:
            self.tracer = self.start(
                self.forktrace, "run", *options_of_forktrace, "--", *command,
                stdin=stdin, stdout=output, stderr=output,
                env={**os.environ, **(env or {})}, **options)
        return self.tracer

    def start(self, *command, **options):
        options.setdefault("cwd", self.folder)
        process = subprocess.Popen([str(it) for it in command], **options)
        self.started.append(process)
        return process

    def program(self):
        """Pid of the program: the child of forktrace that is not forktrace itself."""
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
            if self.tracer.poll() is not None or time.monotonic() > end:
                raise Spoilt(f"never {what}: {self.said()[-800:]}")
            time.sleep(0.02)

    def until_listening(self, port):
        def connects():
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        self.until(f"listening on {port}", connects)

    def end(self, number=signal.SIGTERM):
        """Ends the program as its users do, and waits for the report."""
        try:
            os.kill(self.program(), number)
        except (Spoilt, ProcessLookupError):
            pass
        return self.wait()

    def wait(self, seconds=60):
        try:
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
def new_run(forktrace):
    """A run in a folder that other users can look into, which is removed after it."""
    folder = tempfile.mkdtemp(prefix="forktrace-programs-")
    os.chmod(folder, 0o755)
    run = Run(forktrace, folder)
    try:
        yield run
    finally:
        run.clean_up()
        shutil.rmtree(folder, ignore_errors=True)
