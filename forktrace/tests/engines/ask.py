"""Asks an engine questions of the tables in a folder: ask.py [--measure] ENGINE DIR SETUP QUESTION…

Prints a line of JSON for each question: its rows, as lists. Times are left as they are. With
--measure it prints what each question took in place of its rows: see `measured`.
"""

import json
import os
import sys
import time

THREADS = 2
# For what is sorted or grouped; an engine has more for itself.
MEMORY_GB = 6


def statements(path, folder):
    """The statements of a file, without its comments."""
    text = open(path, encoding="utf-8").read().replace("DIR", folder)
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [it.strip() for it in "\n".join(lines).split(";") if it.strip()]


def duckdb():
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"set threads = {THREADS}; set memory_limit = '{MEMORY_GB}GB'")
    return lambda query: connection.execute(query).fetchall()


def spark():
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(f"local[{THREADS}]").appName("questions")
    builder = builder.config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.memory", f"{MEMORY_GB}g")
    builder = builder.config("spark.sql.shuffle.partitions", str(THREADS))
    builder = builder.config("spark.sql.session.timeZone", "UTC")
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return lambda query: [tuple(row) for row in session.sql(query).collect()]


def clickhouse():
    from chdb import session

    opened = session.Session()
    opened.query(f"set max_threads = {THREADS}")
    opened.query(f"set max_memory_usage = {MEMORY_GB << 30}")
    # What is mapped into memory is not counted as read.
    opened.query("set storage_file_read_method = 'pread'")

    def ask(query):
        answer = str(opened.query(query, "JSONCompactEachRow"))
        return [json.loads(line) for line in answer.splitlines()]

    return ask


def plain(value):
    """Numbers that an engine writes as text or as a decimal."""
    if isinstance(value, (int, float, bool)) or value is None:
        return value
    text = str(value)
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def family():
    """This process and those that it started: Spark is one of them."""
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace").read()
        except OSError:
            continue
        parents[int(pid)] = int(stat.rpartition(")")[2].split()[1])
    found = [os.getpid()]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def of_family(file, field):
    """A number that the kernel keeps of each process, added up."""
    total = 0
    for pid in family():
        try:
            lines = open(f"/proc/{pid}/{file}", encoding="utf-8").read().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
    return total


def measured(ask, question, engine):
    """Seconds to the answer, bytes of files that the engine asked the kernel for, and memory.

    Bytes are those of read calls, whether or not they came from the page cache. Spark reads its own
    programs when it does something for the first time, so its bytes are those of a second time; the
    others keep what they have read, so theirs are those of the first.
    """
    before, began = of_family("io", "rchar"), time.monotonic()
    rows = ask(question)
    seconds, read = time.monotonic() - began, of_family("io", "rchar") - before
    if engine == "spark":
        before = of_family("io", "rchar")
        ask(question)
        read = of_family("io", "rchar") - before
    memory = of_family("status", "VmHWM") * 1024
    return {"rows": len(rows), "seconds": seconds, "read_bytes": read, "memory_bytes": memory}


def main():
    arguments = sys.argv[1:]
    measures = arguments[:1] == ["--measure"]
    engine, folder, setup, *questions = arguments[1:] if measures else arguments
    ask = {"duckdb": duckdb, "spark": spark, "clickhouse": clickhouse}[engine]()
    for statement in statements(setup, folder):
        ask(statement)
    for question in questions:
        [statement] = statements(question, folder)
        if measures:
            print(json.dumps(measured(ask, statement, engine)), flush=True)
            continue
        rows = [[plain(value) for value in row] for row in ask(statement)]
        print(json.dumps(rows), flush=True)


main()
