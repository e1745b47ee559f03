"""pgbench against one target, and the CPU time of what stands between it and Postgres."""

import collections
import os
import re
import statistics
import subprocess
import sys

Target = collections.namedtuple("Target", "name pid url")
"""`pid` is of the process that stands between, 0 for none."""

Sample = collections.namedtuple("Sample", "tps cpu queries by_script", defaults=((),))
"""Transactions per second without the time to connect, microseconds of CPU that each cost in between, how many there
were, and, with more than one script, a `Script` of each."""

Script = collections.namedtuple("Script", "count milliseconds")
"""How many transactions, and what one took on average."""

SCRIPT = re.compile(r"^ - ([0-9]+) transactions \(.*?^ - latency average = ([0-9.]+) ms", re.MULTILINE | re.DOTALL)


def read_targets(path):
    with open(path, encoding="utf-8") as lines:
        fields = [line.rstrip("\n").split("\t") for line in lines]
    return [Target(name, int(pid), url) for name, pid, url in fields]


def turns(targets, number):
    """The order of a round: each time another one is first, and who follows whom changes."""
    order = targets[number % len(targets):] + targets[:number % len(targets)]
    return order if number % 2 == 0 else order[::-1]


def pgbench(program, target, mode, clients, what, timeout):
    """`what` are the arguments that say which queries, and for how long."""
    command = [program, "-n", "-M", mode, "-c", str(clients), "-j", "1", *what, target.url]
    before = cpu_seconds(target.pid)
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    after = cpu_seconds(target.pid)
    if done.returncode:
        sys.exit(f"pgbench failed at {target.name}, {mode}, {clients} clients: {done.stderr.strip()[-2000:]}")
    tps = float(re.search(r"tps = ([0-9.]+) \(without", done.stdout)[1])
    queries = int(re.search(r"actually processed: ([0-9]+)", done.stdout)[1])
    failed = re.search(r"failed transactions: ([0-9]+)", done.stdout)
    if queries == 0 or (failed and failed[1] != "0"):
        sys.exit(f"pgbench at {target.name}, {mode}, {clients} clients: {done.stdout}")
    by_script = tuple(Script(int(count), float(took)) for count, took in SCRIPT.findall(done.stdout))
    return Sample(tps, (after - before) / queries * 1e6, queries, by_script)


def cpu_seconds(pid):
    """What a process, its threads and its children have used so far; logging in is in it, and is little of some seconds."""
    return sum(own_cpu_seconds(each) for each in family(pid)) if pid else 0.0


def family(pid):
    yield pid
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            found = children.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in found:
        yield from family(int(child))


def own_cpu_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            # The second field is the program's name, which may have blanks.
            fields = stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        # It has ended since it was found, as a worker of autovacuum does.
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shown(sample):
    between = f"{sample.cpu:8.1f} µs" if sample.cpu else ""
    return f"{sample.tps:10.0f}/s {between}"


def median(samples):
    return Sample(*(statistics.median(getattr(sample, part) for sample in samples) for part in ("tps", "cpu", "queries")))
