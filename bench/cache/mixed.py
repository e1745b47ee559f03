"""Reads and writes with a few keys far more often than others, where a change drops rows' entries, or a table's."""

import collections
import statistics
import subprocess
import sys

import load
import queries
from figures import figure, ratios
from rest import Api

CLIENTS = 8
LEVELS = ("row", "table")
SHARES = ((95, 5), (80, 20))


def measure(options, targets):
    api = Api(options)
    api.until_serving("bench")
    rates, kept, costs = (collections.defaultdict(list) for _ in range(3))
    print(f"{options.rounds} rounds of {options.seconds} s; reads and writes per second, and reads answered from the cache",
          flush=True)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for level in LEVELS:
            for reads, writes in SHARES:
                # Nothing else removes the versions that the writes leave.
                vacuum(options, targets["direct"])
                for target in load.turns(list(targets.values()), number):
                    # The other target's writes have dropped what was kept, and what is to be measured is not how it fills.
                    run(options, target, level, reads, writes, max(1, options.seconds // 2))
                    before = hits(api, target, level)
                    sample, asked = run(options, target, level, reads, writes, options.seconds)
                    kind = (reads, writes, level, target.name)
                    rates[kind].append(sample.tps)
                    costs[kind].append(sample.cpu)
                    ratio = (hits(api, target, level) - before) / asked
                    kept[kind].append(ratio)
                    told = f"{ratio:6.3f}" if target.name == "cache" else ""
                    print(f"  {reads}/{writes} {level:6} {target.name:8} {load.shown(sample)} {told}", flush=True)
    figures, medians = {}, {}
    for reads, writes in SHARES:
        for level in LEVELS:
            name = f"mixed_{reads}_{writes}_{level}"
            cache, direct = ((reads, writes, level, target) for target in ("cache", "direct"))
            figures[f"{name}_vs_direct"] = figure(ratios(rates[cache], rates[direct]))
            figures[f"{name}_hit_ratio"] = figure(kept[cache], "hits/reads")
            for kind in (cache, direct):
                medians[f"{name}_{kind[-1]}"] = {"tps": round(statistics.median(rates[kind])),
                                                "cpu_us": round(statistics.median(costs[kind]), 1)}
    return figures, medians


def run(options, target, level, reads, writes, seconds):
    """A sample, and how many of its transactions were reads."""
    sql = queries.SQL
    what = ["-f", f"{sql}/read_{level}.sql@{reads}", "-f", f"{sql}/write_{level}.sql@{writes}", "-T", str(seconds)]
    sample = load.pgbench(f"{options.bin}/pgbench", target, "prepared", CLIENTS, what, seconds + 60)
    return sample, sample.by_script[0].count


def hits(api, target, level):
    return api.hits("bench", queries.READS[f"read_{level}"]) if target.name == "cache" else 0


def vacuum(options, direct):
    done = subprocess.run([f"{options.bin}/psql", "--no-psqlrc", "-qX", "-c", "VACUUM pgbench_accounts", "-c", "VACUUM coded",
                           direct.url], capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"VACUUM fails: {done.stderr.strip()}")
