"""One holds a lock and waits; others wait for the lock."""
import os, re, shutil, signal, subprocess, threading, time

from harness import SOURCES, Spoilt, case, http, output, tool
from judge import Expected

NEVER = [r"^(deadlock|hang)", "coincidence"]
HELD, TIMES = 0.6, 3


HELPERS = r"^(VM |GC |G1 |C1 |C2 |Signal |Finalizer|Reference|Service |Monitor |Sweeper|Notif|Common)"


def jvm(run, threads):
    """Threads that share a monitor; each holds it while it sleeps."""
    run.build(tool("javac"), "-d", ".", SOURCES / "Monitor.java")
    run.trace_program(tool("java"), "-Xmx128m", "-XX:+UseSerialGC", "Monitor", str(threads), "3000")
    run.wait()
    said = dict(re.findall(r"(\w+)=(\d+)", run.said()))
    blocked, longest = float(said["blocked_ms"]), float(said["longest_ms"])
    return Expected("lock", "worker", "worker|monitor", (0.1 * 3000, 4000),
                    never=NEVER, parked=HELPERS, oracle=f"ThreadMXBean: blocked {blocked:.0f} ms in all, the "
                    f"longest of one thread {longest:.0f} ms")


@case("jvm-8", ["java", "javac"])
def jvm_8(run):
    """8 threads of a JVM contend on a monitor, whose holder sleeps for 5 ms"""
    return jvm(run, 8)


@case("jvm-150", ["java", "javac"])
def jvm_150(run):
    """150 threads of a JVM contend on a monitor, whose holder sleeps for 5 ms"""
    return jvm(run, 150)


@case("postgres-row", ["initdb", "postgres", "psql"], serves=True)
def postgres_row(run):
    """a PostgreSQL backend sleeps 0.6 s while it has a row that another one wants"""
    port = run.free_port()
    as_postgres = dict(user="postgres") if os.getuid() == 0 else {}
    (run.folder / "db").mkdir()
    if as_postgres:
        shutil.chown(run.folder / "db", "postgres")
        shutil.chown(run.folder, "postgres")
    subprocess.run([tool("initdb"), "-D", run.folder / "db", "-A", "trust", "-N"], check=True,
                   stdout=subprocess.DEVNULL, **as_postgres)
    # A look at pg_stat_activity would wake the server; its log says the same.
    run.trace_program(tool("postgres"), "-D", str(run.folder / "db"), "-p", str(port), "-k",
                      str(run.folder), "-c", "listen_addresses=", "-c", "log_lock_waits=on",
                      "-c", "deadlock_timeout=100ms", **as_postgres)

    def sql(*text):
        commands = [word for it in text for word in ("-c", it)]
        return output(tool("psql"), "-qAt", "-h", run.folder, "-p", port, "-U", "postgres",
                      *commands)

    run.until_ready("ready", lambda: sql("select 'ready'").strip() == "ready")
    sql("create table t (id int primary key, n int)", "insert into t values (1, 0)")
    holders = []

    def hold():
        said = sql("begin; update t set n = n + 1; select pg_backend_pid();"
                   f" select pg_sleep({HELD}); commit")
        holders.append(said.split()[0])

    for _ in range(TIMES):
        holder = threading.Thread(target=hold)
        holder.start()
        time.sleep(0.15)
        sql("begin; update t set n = n + 10; commit")
        holder.join()
    run.end(signal.SIGINT)
    waits = [float(it) for it in
             re.findall(r"acquired ShareLock on transaction \d+ after ([0-9.]+) ms", run.said())]
    if len(waits) < TIMES:
        raise Spoilt(f"only {len(waits)} waited: {run.said()[-800:]}")
    return Expected("lock stall", "postgres", "postgres|sleep|latch|epoll",
                    (0.6 * sum(waits), 1000 * HELD * TIMES + 100), never=NEVER, tids=holders,
                    oracle="log_lock_waits: " + ", ".join(f"{it:.0f}" for it in waits) + " ms")


@case("mariadb-row", ["mariadbd", "mariadb-install-db", "mariadb"], serves=True)
def mariadb_row(run):
    """a MariaDB connection sleeps 0.6 s while it has a row that another one wants"""
    data, socket = run.folder / "db", run.folder / "socket"
    subprocess.run([tool("mariadb-install-db"), "--no-defaults", f"--datadir={data}",
                    "--user=root", "--auth-root-authentication-method=normal",
                    "--skip-test-db"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    run.trace_program(tool("mariadbd"), "--no-defaults", f"--datadir={data}", "--user=root",
                      f"--socket={socket}", "--skip-networking", "--innodb-buffer-pool-size=16M",
                      "--innodb-flush-log-at-trx-commit=0",
                      f"--pid-file={run.folder}/pid", "--performance-schema=off")

    def sql(text):
        return output(tool("mariadb"), "--no-defaults", "-u", "root", "-S", socket, "-Ne", text)

    run.until_ready("ready", lambda: sql("select 'ready'").strip() == "ready")
    sql("create database d; create table d.t (id int primary key, n int) engine=innodb;"
        "insert into d.t values (1, 0)")
    holders = []

    def hold():
        said = sql("select tid from information_schema.processlist where id = connection_id();"
                   f"begin; update d.t set n = n + 1; select sleep({HELD}); commit")
        holders.append(said.split()[0])

    for _ in range(TIMES):
        holder = threading.Thread(target=hold)
        holder.start()
        time.sleep(0.15)
        sql("update d.t set n = n + 10")
        holder.join()
    waits = dict(line.split("\t") for line in
                 sql("show global status like 'innodb_row_lock%'").splitlines())
    run.end()
    ms = float(waits["Innodb_row_lock_time"])
    return Expected("lock stall", "mariadb|one_conn", "sleep|futex|lock|mariadb|one_conn", None,
                    tids=holders, never=NEVER, oracle=f"Innodb_row_lock_time: {ms:.0f} ms in "
                    f"{waits['Innodb_row_lock_waits']} waits")


@case("ruby-mutex", ["ruby"])
def ruby_mutex(run):
    """a thread of Ruby sleeps 0.3 s while it has a Mutex that three others want"""
    run.trace_program(tool("ruby"), "-e", """
mutex = Mutex.new
4.times.map { |i| Thread.new { Thread.current.name = "worker-#{i}"; waited = 0
  2.times { begun = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    mutex.synchronize { waited += Process.clock_gettime(Process::CLOCK_MONOTONIC) - begun
                        sleep 0.3 } }
  puts "waited #{(1000 * waited).round}" } }.each(&:join)""")
    run.wait()
    waited = [int(it) for it in re.findall(r"waited (\d+)", run.said())]
    return Expected("lock stall", "worker|ruby", "worker|sleep|futex|lock", (0.9 * 2400, 3000 + sum(waited)),
                    never=NEVER, oracle=f"waited for it, each: {waited} ms")


@case("go-flock", ["go"], serves=True)
def go_flock(run):
    """handlers of Go's net/http in flock of a file that an outsider has for 0.6 s"""
    import fcntl
    run.build(tool("go"), "build", "-o", "served", SOURCES / "served.go")
    port, waited = run.free_port(), 0
    run.trace_program("./served", str(port))
    run.until_listening(port)
    for _ in range(TIMES):
        with open(run.folder / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            asks = [threading.Thread(target=http, args=(port, "/file")) for _ in range(3)]
            begin = time.monotonic()
            for it in asks:
                it.start()
            time.sleep(HELD)
        for it in asks:
            it.join()
        waited += 1000 * (time.monotonic() - begin)
    run.end()
    return Expected("lock stall", "served", "flock|lock", (0.85 * 1000 * HELD * TIMES, 3 * waited + 50),
                    never=NEVER, oracle=f"the handlers waited {waited:.0f} ms")
