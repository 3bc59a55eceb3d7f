"""Asks an engine questions of the tables in a folder: ask.py ENGINE DIR SETUP QUESTION…

Prints a line of JSON for each question: its rows, as lists. Times are left as they are.
"""

import json
import sys


def statements(path, folder):
    """The statements of a file, without its comments."""
    text = open(path, encoding="utf-8").read().replace("DIR", folder)
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [it.strip() for it in "\n".join(lines).split(";") if it.strip()]


def duckdb():
    import duckdb

    connection = duckdb.connect()
    return lambda query: connection.execute(query).fetchall()


def spark():
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").appName("questions")
    builder = builder.config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.shuffle.partitions", "2")
    builder = builder.config("spark.sql.session.timeZone", "UTC")
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return lambda query: [tuple(row) for row in session.sql(query).collect()]


def clickhouse():
    from chdb import session

    opened = session.Session()

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


def main():
    engine, folder, setup, *questions = sys.argv[1:]
    ask = {"duckdb": duckdb, "spark": spark, "clickhouse": clickhouse}[engine]()
    for statement in statements(setup, folder):
        ask(statement)
    for question in questions:
        [statement] = statements(question, folder)
        rows = [[plain(value) for value in row] for row in ask(statement)]
        print(json.dumps(rows), flush=True)


main()
