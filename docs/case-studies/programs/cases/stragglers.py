"""One of several takes far longer, and the others wait for it."""
import os, re, time

from cases.event_loops import rust
from harness import SOURCES, case, tool
from judge import Expected

NEVER = [r"^(deadlock|hang|pool_exhausted|event_loop)", "coincidence"]


@case("openmp-straggler", ["gcc"])
def openmp(run):
    """one of four OpenMP threads computes 0.3 s, three times; the others wait at the barrier"""
    run.build(tool("gcc"), "-O2", "-fopenmp", SOURCES / "straggler.c", "-o", "straggler")
    # They would spin before they sleep, which with fewer CPUs than threads is worse.
    run.trace_program("./straggler", env={"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive"})
    run.wait()
    rounds = re.findall(r"tid (\d+) slowest ([0-9.]+)", run.said())
    ms = sum(float(it) for _, it in rounds)
    return Expected("straggler", "straggler", None, (400, ms + 50), never=NEVER,
                    tids=[tid for tid, _ in rounds],
                    oracle=f"omp_get_wtime: the slowest thread {ms:.0f} ms in all")


@case("rayon-straggler", ["cargo"])
def rayon(run):
    """one item of a parallel loop of rayon takes 0.4 s, four times; all others 2 ms"""
    run.trace_program(rust(run, "straggler"))
    run.wait()
    ms = sum(float(it) for it in re.findall(r"loop ([0-9.]+)", run.said()))
    return Expected("straggler", "rayon", None, (400, ms + 50), never=NEVER,
                    oracle=f"the loops took {ms:.0f} ms")


@case("mpi-straggler", ["mpicc", "mpirun"])
def mpi(run):
    """one of three ranks sleeps 0.4 s before each MPI_Barrier; the others poll meanwhile"""
    run.build(tool("mpicc"), "-O2", SOURCES / "ranks.c", "-o", "ranks")
    run.trace_program(tool("mpirun"), "--allow-run-as-root", "--oversubscribe", "-n", "3",
                      "--mca", "btl", "self,vader", "./ranks",
                      env={"OMPI_MCA_rmaps_base_oversubscribe": "1"})
    run.wait()
    ranks = re.findall(r"rank (\d+) pid (\d+) waited ([0-9.]+)", run.said())
    waits = [float(it) for *_, it in sorted(ranks)]
    ms = max(waits)
    # They never sleep: nobody stands still, but two of them burn CPUs. mpirun's own loop, which
    # removes its folders and waits for its daemons, is no matter of the ranks.
    return Expected("straggler busy_loop", "ranks", None, (0.1 * ms, 4 * ms),
                    never=[r"^(deadlock|hang|pool_exhausted)", "coincidence"], oracle=f"MPI_Wtime: in the barriers {waits} ms")


@case("ninja-slow", ["ninja", "sleep"])
def ninja(run):
    """one edge of a ninja build takes 1.2 s, the three others 50 ms; the last needs all"""
    (run.folder / "build.ninja").write_text("""
rule sleep
  command = touch $out; echo $for by pid $$$$; exec sleep $for
""" + "".join(f"build out{i}: sleep\n  for = {'1.2' if i == 2 else '0.05'}\n" for i in range(4))
        + "build all: sleep out0 out1 out2 out3\n  for = 0.1\n")
    run.trace_program(tool("ninja"), "-j", "4", "all")
    run.wait()
    log = (run.folder / ".ninja_log").read_text().splitlines()[1:]
    ms = max(int(it.split()[1]) - int(it.split()[0]) for it in log)
    return Expected("stall straggler", "^sleep", "sle?pt?", (0.9 * 1150, ms + 110), never=NEVER,
                    tids=re.findall(r"1.2 by pid (\d+)", run.said()), oracle=f".ninja_log: the slowest edge {ms} ms")


@case("make-slow", ["make", "sleep"])
def make(run):
    """one recipe of make -j4 takes 1.2 s, the three others 50 ms; the last needs all"""
    (run.folder / "Makefile").write_text(
        "all: out0 out1 out2 out3\n\tsleep 0.1\n"
        + "".join(f"out{i}:\n\techo {i} by pid $$$$; exec sleep {'1.2' if i == 2 else '0.05'}\n" for i in range(4)))
    begin = time.monotonic()
    run.trace_program(tool("make"), "-j4", "-s")
    run.wait()
    ms = 1000 * (time.monotonic() - begin)
    return Expected("stall straggler", "^sleep", "sle?pt?", (0.9 * 1150, ms), never=NEVER,
                    tids=re.findall(r"2 by pid (\d+)", run.said()), oracle=f"make took {ms:.0f} ms with forktrace's start")


@case("elixir-command", ["elixir"])
def elixir(run):
    """an Elixir process that runs the command `sleep 0.6` three times"""
    run.trace_program(tool("elixir"), "-e", """
begun = System.monotonic_time(:millisecond)
for _ <- 1..3, do: System.cmd("sleep", ["0.6"])
IO.puts("took #{System.monotonic_time(:millisecond) - begun}")""")
    run.wait()
    ms = float(re.search(r"took (\d+)", run.said())[1])
    return Expected("stall straggler", "^sleep", "sleep", (0.9 * 1800, ms + 20), never=NEVER,
                    oracle=f"System.monotonic_time: {ms:.0f} ms")
