"""Healthy programs: they wait for work, and nothing else is to be said."""
import re, socket, sys, threading, time

from cases.event_loops import body, requests
from cases.pools import slow_server
from harness import SOURCES, case, http, output, tool
from judge import Expected

FALSE = [r"^(deadlock|hang|lock|event_loop|pool_exhausted|straggler|busy_loop|herd)", "coincidence"]


def idle(oracle, kinds="idle"):
    return Expected(kinds, never=FALSE, oracle=oracle)


@case("redis-idle", ["redis-server", "redis-cli"], serves=True)
def redis_idle(run):
    """redis-server with a client that asks for little"""
    port = run.free_port()
    cli = [tool("redis-cli"), "-p", port]
    run.trace_program(tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1",
                      "--save", "", "--latency-monitor-threshold", "50")
    run.until_ready("an answer", lambda: "PONG" in output(*cli, "ping"))
    output(*cli, "-r", "40", "-i", "0.05", "ping")
    slow = output(*cli, "latency", "latest").strip()
    output(*cli, "shutdown", "nosave")
    run.wait()
    return idle(f"LATENCY LATEST: {slow or 'none over 50 ms'}")


@case("memcached-idle", ["memcached"], serves=True)
def memcached_idle(run):
    """memcached with four workers; one client asks for little, one sends half a command"""
    port = run.free_port()
    run.trace_program(tool("memcached"), "-u", "root", "-p", str(port), "-l", "127.0.0.1", "-U",
                      "0", "-t", "4")
    run.until_listening(port)
    with socket.create_connection(("127.0.0.1", port)) as half, \
            socket.create_connection(("127.0.0.1", port)) as it:
        half.sendall(b"set a 0 0 100\r\nabc")
        for _ in range(60):
            it.sendall(b"set key 0 0 5\r\nhello\r\nget key\r\n")
            time.sleep(0.03)
        it.sendall(b"stats\r\n")
        time.sleep(0.1)
        said = it.recv(1 << 20).decode()
    run.end()
    return idle(f"stats: cmd_set {re.search(r'cmd_set (.*)', said)[1].strip()}")


@case("nginx-upstream", ["nginx"], serves=True)
def nginx_upstream(run):
    """nginx in front of a server that takes 0.4 s: it waits for a peer, or for work"""
    port, upstream = run.free_port(), slow_server(0.4)
    (run.folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 2; pid nginx.pid; error_log error.log; user root;
events {{ worker_connections 64; }}
http {{ log_format time "$request_time"; access_log times time;
client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;
scgi_temp_path t5; server {{ listen 127.0.0.1:{port};
location / {{ proxy_pass http://127.0.0.1:{upstream.getsockname()[1]}; }} }} }}""")
    run.trace_program(tool("nginx"), "-p", str(run.folder), "-c", "nginx.conf")
    run.until_listening(port)
    for _ in range(4):
        http(port)
    times = (run.folder / "times").read_text().split()
    run.end()
    upstream.close()
    return idle(f"$request_time: {' '.join(times)} s", "idle peer")


@case("go-mutex", ["go"], serves=True)
def go_mutex(run):
    """goroutines wait for a sync.Mutex whose holder sleeps: parked, no thread is blocked"""
    run.build(tool("go"), "build", "-o", "served", SOURCES / "served.go")
    port = run.free_port()
    run.trace_program("./served", str(port), env={"GODEBUG": "schedtrace=500"})
    run.until_listening(port)
    threads = [threading.Thread(target=http, args=(port, "/mutex")) for _ in range(4)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    run.end()
    last = re.findall(r"SCHED .*", run.said())[-1]
    return idle(f"schedtrace: {last[:90]}")


@case("elixir-idle", ["elixir"])
def elixir_idle(run):
    """an Elixir process that sleeps by its own timer: the schedulers have nothing to do"""
    run.trace_program(tool("elixir"), "-e", "for _ <- 1..20, do: Process.sleep(100)")
    run.wait()
    return idle("20 times Process.sleep(100)")


@case("node-idle", ["node"], serves=True)
def node_idle(run):
    """Node's http server with a client that asks for little"""
    port = run.free_port()
    (run.folder / "server.js").write_text("""
require('http').createServer((q, r) => { r.end('ok'); if (q.url == '/end')
  setTimeout(() => process.exit(0), 10); }).listen(+process.argv[2], '127.0.0.1');""")
    run.trace_program(tool("node"), "server.js", str(port))
    run.until_listening(port)
    end = requests(port, every=0.05)
    time.sleep(2)
    end()
    body(port, "/end")
    run.wait()
    return idle("a request each 50 ms")


@case("asyncio-idle", ["python3"])
def asyncio_idle(run):
    """asyncio with timers only, and two parked threads of a pool"""
    run.trace_program(sys.executable, "-c", """
import asyncio, concurrent.futures, time
async def main():
    loop = asyncio.get_running_loop()
    pool = concurrent.futures.ThreadPoolExecutor(2)
    await asyncio.gather(*(loop.run_in_executor(pool, time.sleep, 0.001) for _ in range(4)))
    for _ in range(20): await asyncio.sleep(0.1)
asyncio.run(main())""")
    run.wait()
    return idle("20 times asyncio.sleep(0.1)")
