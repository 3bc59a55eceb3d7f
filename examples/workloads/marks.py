"""Marks: figures that a scheduler trace can't hold.

Whoever starts a workload may leave a descriptor open and put its number into the
environment variable FORKTRACE_MARKS_FD. A mark is one line of JSON there: the time
(CLOCK_MONOTONIC, nanoseconds), a name, a value, and whatever else tells marks of one
name apart. Without the variable nothing is written, so a workload marks without
asking who listens.
"""

import json
import os
import time

VARIABLE = "FORKTRACE_MARKS_FD"
# A pipe takes a write up to this length in one piece, whoever else writes to it.
PIECE_BYTES = 4096


def mark(name, value, t=None, **more):
    """Writes one mark, of now unless a time is given."""
    number = os.environ.get(VARIABLE)
    if number is None:
        return
    t = time.monotonic_ns() if t is None else t
    line = json.dumps({"t": t, "name": name, "value": value, **more}) + "\n"
    line = line.encode()
    if len(line) > PIECE_BYTES:
        raise ValueError(f"the mark {name!r} is longer than {PIECE_BYTES} bytes")
    os.write(int(number), line)
