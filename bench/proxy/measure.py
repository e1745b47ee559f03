"""Measures the targets that run.sh set up: rounds of pgbench in turn, then idle clients; prints figures."""

import argparse
import collections
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys

import idle

MODES = ("simple", "prepared")
CLIENTS = (1, 8, 64)

# The figures: a name, a measure, its kind of run, and of which two targets it is the ratio.
RATIOS = (
    ("prepared_c8_vs_pgbouncer", "tps", "prepared", 8, "proxy_session", "pgbouncer_session"),
    ("cpu_per_query_vs_pgbouncer", "cpu", "prepared", 8, "proxy_session", "pgbouncer_session"),
    ("prepared_c8_vs_direct", "tps", "prepared", 8, "proxy_session", "direct"),
    ("simple_c8_vs_pgbouncer", "tps", "simple", 8, "proxy_session", "pgbouncer_session"),
    ("prepared_c1_vs_pgbouncer", "tps", "prepared", 1, "proxy_session", "pgbouncer_session"),
    ("prepared_c64_vs_pgbouncer", "tps", "prepared", 64, "proxy_session", "pgbouncer_session"),
    ("prepared_c8_pass_vs_pgbouncer", "tps", "prepared", 8, "proxy_pass", "pgbouncer_session"),
    ("simple_c8_transaction_vs_pgbouncer", "tps", "simple", 8, "proxy_transaction", "pgbouncer_transaction"),
    ("prepared_c8_transaction_vs_session", "tps", "prepared", 8, "proxy_transaction", "proxy_session"),
    ("prepared_c8_pgbouncer_vs_direct", "tps", "prepared", 8, "pgbouncer_session", "direct"),
)

Target = collections.namedtuple("Target", "name pid url")
Sample = collections.namedtuple("Sample", "tps cpu")


def main():
    options = parse()
    targets = read_targets(options.targets)
    kinds = [(mode, clients) for mode in MODES for clients in CLIENTS]
    print(f"{options.rounds} rounds of {options.seconds} s; queries per second, and CPU of what stands between", flush=True)
    for target in targets:
        # Pools fill here and not in the first round.
        pgbench(options.pgbench, target, "simple", max(CLIENTS), 1)
    samples = collections.defaultdict(list)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for mode, clients in kinds:
            # Each time another one is first, and who follows whom changes with the number of clients.
            order = targets[number % len(targets):] + targets[:number % len(targets)]
            for target in order if number % 2 == 0 else reversed(order):
                if not can(target, mode):
                    continue
                sample = pgbench(options.pgbench, target, mode, clients, options.seconds)
                samples[mode, clients, target.name].append(sample)
                print(f"  {mode:8} {clients:3} clients  {target.name:22} {show(sample)}", flush=True)
    if options.rounds > 1:
        print("medians", flush=True)
        for (mode, clients, name), got in sorted(samples.items(), key=lambda item: kinds.index(item[0][:2])):
            print(f"  {mode:8} {clients:3} clients  {name:22} {show(median(got))}", flush=True)
    figures = {}
    for name, measure, mode, clients, above, below in RATIOS:
        pairs = zip(samples[mode, clients, above], samples[mode, clients, below])
        ratios = [getattr(a, measure) / getattr(b, measure) for a, b in pairs if getattr(b, measure)]
        if ratios:
            figures[name] = figure(ratios, "ratio")
    for name, target in (("idle_client_kib", "proxy_transaction"), ("idle_client_kib_of_pgbouncer", "pgbouncer_transaction")):
        for found in targets:
            if found.name == target:
                print(f"{options.idle} idle clients of {target}", flush=True)
                figures[name] = figure([idle.kib_per_client(found.url, found.pid, options.idle)], "KiB")
    for name, value in figures.items():
        print(f"figure {name} {value['value']:.3f} {value['unit']} ({value['spread']})")
    if options.out:
        write(options, samples, figures)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", required=True)
    parser.add_argument("--pgbench", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--idle", type=int, required=True)
    parser.add_argument("--postgres", default="")
    parser.add_argument("--pgbouncer", default="")
    parser.add_argument("--out")
    return parser.parse_args()


def read_targets(path):
    with open(path, encoding="utf-8") as lines:
        fields = [line.rstrip("\n").split("\t") for line in lines]
    return [Target(name, int(pid), url) for name, pid, url in fields]


def can(target, mode):
    """Before 1.21 PgBouncer has no prepared statements when each transaction may have another connection."""
    return not (mode == "prepared" and target.name == "pgbouncer_transaction")


def pgbench(program, target, mode, clients, seconds):
    """Queries per second without the time to connect, and the microseconds of CPU each cost in between."""
    command = [program, "-n", "-S", "-M", mode, "-c", str(clients), "-j", "1", "-T", str(seconds), target.url]
    before = cpu_seconds(target.pid)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    after = cpu_seconds(target.pid)
    if done.returncode:
        sys.exit(f"pgbench failed at {target.name}, {mode}, {clients} clients: {done.stderr.strip()[-2000:]}")
    tps = float(re.search(r"tps = ([0-9.]+) \(without", done.stdout)[1])
    queries = int(re.search(r"actually processed: ([0-9]+)", done.stdout)[1])
    failed = re.search(r"failed transactions: ([0-9]+)", done.stdout)
    if queries == 0 or (failed and failed[1] != "0"):
        sys.exit(f"pgbench at {target.name}, {mode}, {clients} clients: {done.stdout}")
    return Sample(tps, (after - before) / queries * 1e6)


def cpu_seconds(pid):
    """What a process and its threads have used so far; logging in is in it, and is little of some seconds."""
    if pid == 0:
        return 0.0
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        # The second field is the program's name, which may have blanks.
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(sample):
    between = f"{sample.cpu:8.1f} µs" if sample.cpu else ""
    return f"{sample.tps:10.0f}/s {between}"


def median(samples):
    return Sample(*(statistics.median(part) for part in zip(*samples)))


def figure(values, unit):
    spread = f"{min(values):.3f}…{max(values):.3f} of {len(values)}"
    return {"value": round(statistics.median(values), 3), "unit": unit, "spread": spread}


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(options, samples, figures):
    medians = {f"{mode}_c{clients}_{name}": {"tps": round(median(got).tps), "cpu_us": round(median(got).cpu, 1)}
               for (mode, clients, name), got in samples.items() if got}
    result = {
        "benchmark": "proxy",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "postgres": options.postgres,
        "pgbouncer": options.pgbouncer,
        "settings": {"rounds": options.rounds, "seconds": options.seconds, "idle_clients": options.idle, "scale": 10,
                     "pool_size": {"session": 80, "transaction": 20}, "workers": 1},
        "figures": figures,
        "medians": medians,
    }
    with open(options.out, "w", encoding="utf-8") as out:
        json.dump(result, out, indent=1, ensure_ascii=False)
        out.write("\n")


main()
