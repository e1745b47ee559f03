"""How soon a row is received that is committed alone, at a steady rate. It counts from where the row is written, a little
before its commit, by the same clock."""

import collections
import pathlib
import statistics

from figures import figure
from load import turns
from receivers import Receivers

SCRIPT = pathlib.Path(__file__).parent / "sql" / "paced.sql"

RECEIVERS = {"socket": "", "redis": "_redis", "webhook": "_webhook", "recvlogical": "_recvlogical"}
"""And what is behind their figures' names."""


def measure(options):
    receivers = Receivers(options)
    count = options.rate * options.seconds // 4 * 4
    found, paces = collections.defaultdict(list), []
    print(f"{options.rounds} rounds of {options.seconds} s, {options.rate} commits/s; median, 99th percentile and longest",
          flush=True)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for name in turns(list(RECEIVERS), number):
            receivers.database.empty("ticks")
            with receivers.receiver(name, count, at_once=True) as listener:
                paces.append(receivers.database.pace(str(SCRIPT), options.rate, count))
                report = listener.report(60)
            receivers.check(report, receivers.database.written("ticks"))
            times = [report[f"{part}_us"] / 1000 for part in ("p50", "p99", "max")]
            found[name].append(times)
            print(f"  {name:12} {times[0]:8.2f} {times[1]:8.2f} {times[2]:8.2f} ms, at {paces[-1]:.0f}/s", flush=True)
    receivers.only(None)
    figures = {}
    for at, part in enumerate(("p50", "p99")):
        for name, suffix in RECEIVERS.items():
            figures[f"latency_{part}_ms{suffix}"] = figure([times[at] for times in found[name]], "ms")
    return figures, {"latency_commits_per_s": round(statistics.median(paces))}
