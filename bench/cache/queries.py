"""pgbench with the queries in sql/, and whether they were really answered from a cache."""

import pathlib

import load

SQL = pathlib.Path(__file__).parent / "sql"

READS = {"point": "select abalance from pgbench_accounts", "aggregate": "select count", "read_row": "select abalance",
         "read_table": "select balance from coded"}
"""What is in the template of a script's query and of no other's."""

CLIENTS_TO_WARM = 8


def run(options, target, mode, clients, scripts, keys=1000):
    """A sample of `scripts`, one as often as the other."""
    return pgbench(options, target, mode, clients, scripts, ["-D", f"keys={keys}", "-T", str(options.seconds)])


def run_once(options, target, mode, script):
    """Often enough that who is to keep the answer has it."""
    pgbench(options, target, mode, 1, [script], ["-D", "keys=1000", "-t", "3"])


def pgbench(options, target, mode, clients, scripts, what):
    files = [word for script in scripts for word in ("-f", str(SQL / f"{script}.sql"))]
    return load.pgbench(f"{options.bin}/pgbench", target, mode, clients, [*files, *what], 1800)


def walk(options, target, mode, keys):
    """Asks for each key once; gives a sample."""
    what = ["-D", "turn=-1", "-D", f"clients={CLIENTS_TO_WARM}", "-t", str(keys // CLIENTS_TO_WARM)]
    return pgbench(options, target, mode, CLIENTS_TO_WARM, ["walk"], what)


def enough(hits, queries):
    """Whether a number is of what it says: of a cache that answers."""
    return hits >= 0.999 * queries
