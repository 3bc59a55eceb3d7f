#!/usr/bin/env python3
"""Runs programs that nobody here wrote under forktrace, each under a load with a known
stall, and compares the report with what an expert would say.

    programs.py [NAME…] [--list] [--forktrace PATH] [--times N] [--attach]
                [--keep FOLDER | --again FOLDER]
    programs.py [NAME…] --soak MINUTES [--hogs N] [--forktrace PATH]

As root. Ends with 1 if a report was wrong, with 77 if nothing could run. The second runs one case
after the other for so long, beside N loops that want a CPU, and asks only whether a deadlock or a
hang was said of programs of which none has any.
"""
import argparse, importlib, json, os, random, shutil, subprocess, sys, time, traceback
from pathlib import Path

OWN = Path(__file__).resolve().parent
sys.path.insert(0, str(OWN))

import harness, judge  # noqa: E402  (they lie beside this file)

TRIES = 3


def load_cases():
    sys.path.insert(0, str(OWN / "cases"))
    for file in sorted((OWN / "cases").glob("*.py")):
        importlib.import_module(f"cases.{file.stem}")
    return harness.CASES


def record(case, options, keep):
    """Runs a case; gives the report and what is expected of it."""
    forktrace = options.forktrace
    with harness.new_run(forktrace, options.attach, case.serves) as run:
        expected = case.function(run)
        expected.noticed = [line for line in run.said().splitlines() if is_alarm(line)]
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(run.trace, keep / "trace.ft")
            (keep / "expected.json").write_text(json.dumps(vars(expected), indent=1))
        return report(forktrace, run.trace), expected


def is_alarm(line):
    """Is it what forktrace says at once of tasks that can't go on?"""
    return line.startswith(("forktrace: Deadlock", "forktrace: Hang"))


def soak(cases, options):
    """Runs cases in any order until the time is up; gives how many alarms there were."""
    hog = ["sh", "-c", "while :; do :; done"]
    hogs = [subprocess.Popen(hog) for _ in range(options.hogs)]
    end, seed = time.monotonic() + 60 * options.soak, random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    order = random.Random(seed)
    runs, spoilt, alarms = 0, 0, []
    try:
        while time.monotonic() < end:
            case = order.choice(cases)
            try:
                said, expected = record(case, options, None)
            except (harness.Spoilt, harness.Missing, OSError, subprocess.SubprocessError,
                    ValueError, KeyError, TypeError) as why:
                spoilt += 1
                print(f"{case.name}: no report: {str(why)[:200]}", flush=True)
                continue
            runs += 1
            found = [it["sentence"] for it in said["findings"]
                     if it["kind"] in ("deadlock", "hang")] + expected.noticed
            print(f"{case.name}: {'; '.join(found) or 'no alarm'}", flush=True)
            alarms += [(case.name, it) for it in found]
    finally:
        for it in hogs:
            it.kill()
            it.wait()
    print(f"{runs} runs, {spoilt} without a report, {len(alarms)} false alarms")
    for name, it in alarms:
        print(f"  WRONG: {name}: {it}")
    return len(alarms), runs


def read_again(forktrace, keep):
    """The report on a kept trace, and what was expected of it."""
    expected = judge.Expected.kept(json.loads((keep / "expected.json").read_text()))
    return report(forktrace, keep / "trace.ft"), expected


def report(forktrace, trace):
    return json.loads(harness.output(
        forktrace, "report", "--format", "json", "--episodes", "100000", "-o", "-", trace))


def run_case(case, options):
    """Gives what is wrong with a case; a run that the machine spoilt is made again."""
    keep = Path(options.keep).resolve() / case.name if options.keep else None
    for left in reversed(range(1 if options.again else TRIES)):
        try:
            if options.again:
                said, expected = read_again(options.forktrace, Path(options.again) / case.name)
            else:
                said, expected = record(case, options, keep)
        except harness.Spoilt as why:
            if not left:
                return [f"spoilt {TRIES} times: {why}"]
            continue
        wrong = list(judge.judge(said, expected))
        if not wrong or not left or said["audit"]["complete"]:
            break
    print(f"  expected: {expected}")
    if expected.oracle:
        print(f"  its own instrument: {expected.oracle}")
    for line in judge.summary(said):
        print(f"  {line}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a case, or how several begin")
    parser.add_argument("--list", action="store_true", help="only list the cases")
    parser.add_argument("--forktrace", default="forktrace", help="the binary")
    parser.add_argument("--keep", metavar="FOLDER", help="keep each trace, in a folder by name")
    parser.add_argument("--times", type=int, default=1, help="how often to run each")
    parser.add_argument("--again", metavar="FOLDER", help="run nothing: read kept traces again")
    parser.add_argument("--attach", action="store_true",
                        help="start the programs without forktrace, and attach it to them")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="look for false alarms")
    parser.add_argument("--hogs", type=int, default=4, help="loops beside a soak")
    options = parser.parse_args()
    # forktrace would run the programs as who called sudo, and their folders are root's.
    for variable in ("SUDO_UID", "SUDO_GID", "SUDO_USER"):
        os.environ.pop(variable, None)
    cases = load_cases()
    chosen = [it for it in cases.values()
              if not options.names or any(it.name.startswith(name) for name in options.names)]
    if not chosen:
        parser.error(f"no such case; there are {' '.join(cases)}")
    if options.list:
        for case in chosen:
            missing = case.missing()
            print(f"{case.name:22} {case.planted}"
                  + (f"  [lacks {', '.join(missing)}]" if missing else ""))
        return 0
    if options.soak:
        alarms, runs = soak([it for it in chosen if not it.missing()], options)
        return 1 if alarms else 0 if runs else 77
    verdicts = {}
    for case in chosen:
        for _ in range(options.times):
            print(f"{case.name}: {case.planted}", flush=True)
            try:
                missing = case.missing()
                if missing and not options.again:
                    raise harness.Missing(f"lacks {', '.join(missing)}")
                wrong = run_case(case, options)
            except harness.Missing as what:
                print(f"  LEFT OUT: {what}")
                verdicts.setdefault(case.name, "left out")
                continue
            except (OSError, subprocess.SubprocessError, ValueError):
                wrong = [traceback.format_exc()]
            for line in wrong:
                print(f"  WRONG: {line}")
            before = verdicts.get(case.name)
            verdicts[case.name] = "wrong" if wrong or before == "wrong" else "right"
    counts = {it: list(verdicts.values()).count(it) for it in ("right", "wrong", "left out")}
    print(", ".join(f"{n} {what}" for what, n in counts.items()))
    if counts["wrong"]:
        print("wrong:", " ".join(name for name, it in verdicts.items() if it == "wrong"))
        return 1
    return 0 if counts["right"] else 77


if __name__ == "__main__":
    sys.exit(main())
