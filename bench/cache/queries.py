"""pgbench with the queries in sql/, and whether they were really answered from a cache."""

import pathlib

import load

SQL = pathlib.Path(__file__).parent / "sql"

READS = {"point": "select abalance from pgbench_accounts", "aggregate": "select count", "read_row": "select abalance",
         "read_table": "select balance from coded"}
"""What is in the template of a script's query and of no other's."""

CLIENTS_TO_WARM = 8


def run(options, target, mode, clients, script, keys=1000, seconds=None):
    """A sample of `script` alone."""
    seconds = options.seconds if seconds is None else seconds
    what = ["-f", str(SQL / f"{script}.sql"), "-D", f"keys={keys}", "-T", str(seconds)]
    return load.pgbench(f"{options.bin}/pgbench", target, mode, clients, what, seconds + 60)


def run_once(options, target, mode, script):
    """Often enough that who is to keep the answer has it."""
    what = ["-f", str(SQL / f"{script}.sql"), "-D", "keys=1000", "-t", "3"]
    load.pgbench(f"{options.bin}/pgbench", target, mode, 1, what, 60)


def walk(options, target, mode, keys):
    """Asks for each key once; gives a sample."""
    what = ["-f", str(SQL / "walk.sql"), "-D", "turn=-1", "-D", f"clients={CLIENTS_TO_WARM}",
            "-t", str(keys // CLIENTS_TO_WARM)]
    return load.pgbench(f"{options.bin}/pgbench", target, mode, CLIENTS_TO_WARM, what, 1800)


def enough(hits, queries):
    """Whether a number is of what it says: of a cache that answers."""
    return hits >= 0.999 * queries
