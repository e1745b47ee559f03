"""What the Python driver programs share: arguments, and how a transcript is written."""

import hashlib
import os
import sys
import time

DEADLINE = 20
"""Seconds to wait for a state before giving up."""

BIG = 5_000_000
MANY = 20_000

SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND position('{}' IN query) > 0"
"""Asks whether a query with this text is asleep in the server, whichever connection has it."""


def arguments():
    """The URL, the schema to work in, and whether only what transaction pooling allows is wanted."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} URL SCHEMA")
    return sys.argv[1], sys.argv[2], "transaction-pooling" in os.environ.get("FEATURES", "").split(",")


def say(what, *values):
    """One line of the transcript."""
    print(f"{what}:", *values, flush=True)


def digest(data):
    """Stands for data that is too long to print."""
    if isinstance(data, str):
        data = data.encode()
    return f"{len(data)} bytes {hashlib.md5(data).hexdigest()}"


def poll(what):
    """Yields until the caller leaves the loop; fails when the deadline is over."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        yield
    raise TimeoutError(f"{what} did not happen within {DEADLINE} s")
