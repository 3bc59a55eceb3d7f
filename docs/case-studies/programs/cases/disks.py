"""Programs that wait for a disk, by what they say about it themselves."""
import json, os, re, shutil, signal, subprocess, sys

from harness import Spoilt, case, output, tool
from judge import Expected

NEVER = [r"^(deadlock|hang|lock|pool_exhausted|straggler)", "coincidence"]


def disk(task, says, most_ms, oracle, kinds="disk", least=0.0):
    return Expected(kinds, task, says, (least, most_ms), never=NEVER, parked="^(bio_|jemalloc)",
                    oracle=oracle)


@case("redis-fsync", ["redis-server", "redis-cli", "redis-benchmark"], serves=True)
def redis_fsync(run):
    """redis-server that syncs its log after each command"""
    port = run.free_port()
    cli = [tool("redis-cli"), "-p", port]
    run.trace_program(tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1",
                      "--save", "", "--appendonly", "yes", "--appendfsync", "always",
                      "--latency-monitor-threshold", "1")
    run.until_ready("an answer", lambda: "PONG" in output(*cli, "ping"))
    output(tool("redis-benchmark"), "-p", port, "-q", "-n", "4000", "-c", "10", "-t", "set")
    latest = output(*cli, "latency", "latest").split()
    output(*cli, "shutdown", "nosave")
    run.wait()
    return disk("redis-server", "fdatasync|fsync|appendonly|disk", 60_000,
                f"LATENCY LATEST: {' '.join(latest)}", "disk event_loop")


@case("sqlite-sync", ["python3"])
def sqlite(run):
    """SQLite that commits 300 times with synchronous=FULL"""
    run.trace_program(sys.executable, "-c", """
import sqlite3, time
it = sqlite3.connect("file.db", isolation_level=None)
it.execute("pragma synchronous=full")
it.execute("create table t (n)")
committed = 0
for n in range(300):
    it.execute("begin"); it.execute("insert into t values (?)", (n,))
    begin = time.monotonic(); it.execute("commit"); committed += time.monotonic() - begin
print("committed", 1000 * committed)""")
    run.wait()
    ms = float(re.search(r"committed ([0-9.]+)", run.said())[1])
    return disk("python", "sync|disk|file.db", ms + 20, f"commits took {ms:.0f} ms")


@case("python-fsync", ["python3"])
def fsyncs(run):
    """four threads of Python, each of which syncs a file of its own on one disk"""
    run.trace_program(sys.executable, "-c", """
import os, threading, time
waited = [0.0] * 4
def sync(at):
    fd = os.open(f"file-{at}", os.O_CREAT | os.O_WRONLY)
    for _ in range(100):
        os.write(fd, b"x" * 4096)
        begin = time.monotonic(); os.fsync(fd); waited[at] += time.monotonic() - begin
threads = [threading.Thread(target=sync, args=(at,)) for at in range(4)]
for it in threads: it.start()
for it in threads: it.join()
print("waited", 1000 * max(waited))""")
    run.wait()
    ms = float(re.search(r"waited ([0-9.]+)", run.said())[1])
    return disk("python", "sync|disk|file-", ms + 20, f"one of the threads waited {ms:.0f} ms")


def fio(run, engine, *options):
    run.trace_program(tool("fio"), "--name=job", f"--ioengine={engine}", "--rw=randread",
                      "--direct=1", "--bs=4k", "--size=16m", "--time_based", "--runtime=2",
                      "--output-format=json", "--output=fio.json", "--thread", "--filename=file",
                      *options)
    run.wait()
    text = (run.folder / "fio.json").read_text()
    said = json.loads(text[text.index("{"):])["jobs"][0]
    if said["error"]:
        raise Spoilt(f"fio: {said['error']}")
    reads = said["read"]
    latency = reads["lat_ns"]
    return reads["total_ios"] * latency["mean"] / 1e6, (
        f"{reads['total_ios']} reads, {latency['mean'] / 1e3:.0f} µs each")


@case("fio-psync", ["fio"])
def fio_psync(run):
    """fio's psync: one thread in pread of a file, past the cache"""
    ms, oracle = fio(run, "psync")
    return disk("fio", "read|file|disk|vd|dev", ms + 300, oracle)


@case("fio-libaio", ["fio"])
def fio_libaio(run):
    """fio's libaio, 8 reads at a time: one thread in io_getevents"""
    ms, oracle = fio(run, "libaio", "--iodepth=8")
    return disk("fio", "io_getevents|aio|read|file|disk", 2600, oracle)


@case("fio-uring", ["fio"])
def fio_uring(run):
    """fio's io_uring, 8 reads at a time: one thread in io_uring_enter"""
    ms, oracle = fio(run, "io_uring", "--iodepth=8")
    return disk("fio", "io_uring|read|file|disk", 2600, oracle)


@case("postgres-sync", ["initdb", "postgres", "pgbench"], serves=True)
def postgres_sync(run):
    """PostgreSQL under pgbench of one client: each commit syncs the log"""
    port = run.free_port()
    as_postgres = dict(user="postgres") if os.getuid() == 0 else {}
    (run.folder / "db").mkdir()
    if as_postgres:
        shutil.chown(run.folder / "db", "postgres")
        shutil.chown(run.folder, "postgres")
    subprocess.run([tool("initdb"), "-D", run.folder / "db", "-A", "trust", "-N"], check=True,
                   stdout=subprocess.DEVNULL, **as_postgres)
    run.trace_program(tool("postgres"), "-D", str(run.folder / "db"), "-p", str(port), "-k",
                      str(run.folder), "-c", "listen_addresses=", "-c", "track_wal_io_timing=on",
                      **as_postgres)
    where = ["-h", run.folder, "-p", port, "-U", "postgres"]
    run.until_ready("ready", lambda: "1" in output(tool("psql"), "-qAt", *where, "-c", "select 1"))
    (run.folder / "one.sql").write_text("insert into t values (1);\n")
    output(tool("psql"), *where, "-c", "create table t (n int)")
    output(tool("pgbench"), "-n", *where, "-t", "600", "-f", run.folder / "one.sql", "postgres")
    ms = float(output(tool("psql"), "-qAt", *where, "-c",
                      "select wal_sync_time + wal_write_time from pg_stat_wal"))
    run.end(signal.SIGINT)
    return disk("postgres", "fdatasync|fsync|pg_wal|disk", 1.5 * ms + 100,
                f"pg_stat_wal: wrote and synced for {ms:.0f} ms", "disk stall")
