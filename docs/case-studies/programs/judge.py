"""Compares a report with what an expert of the program would say, and with what must
always hold."""
import re

# The report's clock and the one that the program measured with start and stop at other
# moments, and a program that is woken has to find a CPU.
ERROR_NS = 50_000


class Expected:
    """What an expert says of one case. All texts are patterns but for `oracle`.

    `kinds`: the first finding is of one of these kinds. `task`: it names a task with this
    name, role or command line. `tids`: the first that it names is one of these. `says`: its sentence or object
    has this in it. `ms`: between which bounds its time is. `never`: what no finding says.
    `parked`: the names of tasks that have nothing to do, which are neither named in a
    finding nor as the end of a stall. `oracle`: what the program's own instrument says.
    """

    def __init__(self, kinds, task=None, says=None, ms=None, *, tids=(), never=(), parked=None,
                 oracle=""):
        self.kinds = kinds.split()
        self.task, self.says, self.ms, self.tids = task, says, ms, [int(it) for it in tids]
        self.never, self.parked, self.oracle = list(never), parked, oracle
        # What forktrace said of deadlocks and hangs while the program ran.
        self.noticed = []

    @classmethod
    def kept(cls, words):
        """From what `vars` gave of another one."""
        it = cls("")
        vars(it).update(words)
        return it

    def __str__(self):
        words = ["/".join(self.kinds)]
        if self.task:
            words.append(f"by {self.task}")
        if self.tids:
            words.append(f"tid {'/'.join(map(str, self.tids))}")
        if self.says:
            words.append(f"on {self.says}")
        if self.ms:
            words.append(f"{self.ms[0]:.0f}–{self.ms[1]:.0f} ms")
        return ", ".join(words)


def judge(report, expected):
    """All that is wrong with a report, a sentence each."""
    alarms = [f"a false alarm: {it}" for it in expected.noticed]
    return [*alarms, *of_findings(report, expected), *always(report, expected)]


def tasks_of(report, finding):
    """A finding's tasks, whether it has them as serials or as objects."""
    by_serial = {task["serial"]: task for task in report["tasks"]}
    for it in finding.get("tasks") or []:
        yield by_serial[it if isinstance(it, int) else it["serial"]]


def is_named(pattern, task):
    words = [task["name"], task.get("role"), " ".join(task.get("argv") or [])]
    return any(re.search(pattern, str(it)) for it in words if it)


def text_of(finding):
    target = finding.get("object")
    target = target.get("name", "") if isinstance(target, dict) else target or ""
    return f"{finding['kind']}: {finding['sentence']} [{target}]"


def of_findings(report, expected):
    findings = report.get("findings")
    if findings is None:
        yield "the report has no findings"
        return
    # That others have the CPUs is true of the machine, and not what is planted.
    told = [it for it in findings if it["kind"] != "starved"]
    if not told:
        yield "no finding" if not findings else f"only {text_of(findings[0])}"
        return
    first = told[0]
    if first["kind"] not in expected.kinds:
        yield f"first is a {first['kind']}, expected {'/'.join(expected.kinds)}: {text_of(first)}"
    elif expected.says and not re.search(expected.says, text_of(first)):
        yield f"first does not say {expected.says}: {text_of(first)}"
    elif not names_right(report, first, expected):
        named = ", ".join(f"{it['tid']} ({it['name']})" for it in tasks_of(report, first))
        wanted = f"{expected.task or ''} {expected.tids or ''}"
        yield f"first names {named or 'nobody'}, not {wanted}: {text_of(first)}"
    elif expected.ms:
        ms = (first.get("ns") or 0) / 1e6
        if not expected.ms[0] <= ms <= expected.ms[1]:
            yield (f"first is of {ms:.1f} ms, expected {expected.ms[0]:.1f} to "
                   f"{expected.ms[1]:.1f}: {text_of(first)}")
    for finding in told:
        if expected.parked and finding["kind"] != "idle":
            for task in tasks_of(report, finding):
                if re.search(expected.parked, task["name"]):
                    yield f"{task['name']} has nothing to do: {text_of(finding)}"
        for pattern in expected.never:
            if re.search(pattern, text_of(finding)):
                yield f"must not be said ({pattern}): {text_of(finding)}"


def names_right(report, finding, expected):
    tasks = list(tasks_of(report, finding))
    return ((not expected.task or any(is_named(expected.task, it) for it in tasks))
            and (not expected.tids or tasks[:1] and tasks[0]["tid"] in expected.tids))


def always(report, expected):
    audit = report["audit"]
    exact = audit["complete"] and not audit["unwoken_ns"]
    if audit["switches_traced"] != audit["switches_kernel"] and exact:
        yield f"switches: {audit['switches_traced']} of {audit['switches_kernel']}"
    for found in report["deadlocks"]:
        tasks = ", ".join(f"{it['name']} in {it['waits_for']}" for it in found["tasks"][:4])
        yield f"a false {found['kind']} of {tasks}"
    tree = report["groups"][0]
    stalled = sum(it["ns"] for it in tree["verdicts"])
    for it in tree["verdicts"]:
        if it["verdict"] == "unknown" and it["ns"] > 0.01 * stalled and exact:
            yield f"not known: {it['ns'] / 1e6:.1f} of {stalled / 1e6:.1f} ms of stalls"
    if "coincidence" in {it["verdict"] for it in tree["verdicts"]}:
        ns = sum(it["ns"] for it in tree["verdicts"] if it["verdict"] == "coincidence")
        if ns > 0.02 * stalled:
            yield f"coincidence: {ns / 1e6:.1f} of {stalled / 1e6:.1f} ms of stalls"
    yield from of_ends(report, expected)
    yield from of_path(report)


def of_ends(report, expected):
    """The named wait ends when the stall does, in 98 % of the time that has a cause, and
    it is not that of a task that has nothing to do."""
    caused, right, parked, worst = 0, 0, 0, None
    for episode in report["episodes"]:
        named = named_wait(episode)
        if episode["verdict"] != "caused" or named is None:
            continue
        ns = episode["end_ns"] - episode["start_ns"]
        caused += ns
        if expected.parked and re.search(expected.parked, named["name"]):
            parked += ns
        late = abs((named["end_ns"] or report["workload"]["duration_ns"]) - episode["end_ns"])
        if late <= ERROR_NS:
            right += ns
        elif worst is None or ns > worst[0]:
            worst = (ns, named, late)
    if caused and right < 0.98 * caused:
        ns, named, late = worst
        yield (f"the named wait ended with the stall in {100 * right / caused:.0f} % of "
               f"{caused / 1e6:.0f} ms; in one of {ns / 1e6:.1f} ms {named['reason']} by "
               f"{named['name']} is named, which ended {late / 1e6:.1f} ms from it")
    if parked > 0.01 * caused:
        yield f"{parked / 1e6:.1f} ms are put down to tasks that have nothing to do"


def named_wait(episode):
    """The wait that the report names, with its own times."""
    inside = episode["chain"][: episode["chain_in_group"]]
    return episode.get("ended_by") or (inside[-1] if inside else None)


def of_path(report):
    path = report.get("path")
    if path is None:
        return
    parts = sum(it["ns"] for it in path["parts"])
    if not parts == path["ns"] == report["workload"]["duration_ns"]:
        yield (f"path: {parts} ns in parts, {path['ns']} in all, "
               f"{report['workload']['duration_ns']} of the workload")


def summary(report):
    """What the report says, in short: its findings or, where there are none, its causes."""
    findings = report.get("findings")
    if findings is not None:
        return [f"{it['ns'] / 1e6:9.1f} ms  {text_of(it)}" for it in findings[:5]]
    lines = []
    for cause in [it for it in report["causes"] if it["group"] == 0][:5]:
        root = cause["root"]
        what = f"{root['reason']} by {root['name']}" if root else "all others"
        lines.append(f"{cause['ns'] / 1e6:9.1f} ms  {cause['verdict']}"
                     f"{' (alone)' if cause['alone'] else ''}: {what}")
    return lines
