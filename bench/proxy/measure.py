"""Measures the targets that run.sh set up: rounds of pgbench in turn, then idle clients; prints figures."""

import argparse
import collections

import idle
from figures import figure, ratios, show, write
from load import median, pgbench, read_targets, shown, turns

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


def main():
    options = parse()
    targets = read_targets(options.targets)
    kinds = [(mode, clients) for mode in MODES for clients in CLIENTS]
    print(f"{options.rounds} rounds of {options.seconds} s; queries per second, and CPU of what stands between", flush=True)
    for target in targets:
        # Pools fill here and not in the first round.
        pgbench(options.pgbench, target, "simple", max(CLIENTS), ["-S", "-T", "1"], 60)
    samples = collections.defaultdict(list)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for mode, clients in kinds:
            for target in turns(targets, number):
                if not can(target, mode):
                    continue
                what = ["-S", "-T", str(options.seconds)]
                sample = pgbench(options.pgbench, target, mode, clients, what, options.seconds + 60)
                samples[mode, clients, target.name].append(sample)
                print(f"  {mode:8} {clients:3} clients  {target.name:22} {shown(sample)}", flush=True)
    if options.rounds > 1:
        print("medians", flush=True)
        for (mode, clients, name), got in sorted(samples.items(), key=lambda item: kinds.index(item[0][:2])):
            print(f"  {mode:8} {clients:3} clients  {name:22} {shown(median(got))}", flush=True)
    figures = {}
    for name, measure, mode, clients, above, below in RATIOS:
        found = ratios(*([getattr(sample, measure) for sample in samples[mode, clients, name]] for name in (above, below)))
        if found:
            figures[name] = figure(found)
    for name, target in (("idle_client_kib", "proxy_transaction"), ("idle_client_kib_of_pgbouncer", "pgbouncer_transaction")):
        for found in targets:
            if found.name == target:
                print(f"{options.idle} idle clients of {target}", flush=True)
                figures[name] = figure([idle.kib_per_client(found.url, found.pid, options.idle)], "KiB")
    show(figures)
    if options.out:
        medians = {f"{mode}_c{clients}_{name}": {"tps": round(median(got).tps), "cpu_us": round(median(got).cpu, 1)}
                   for (mode, clients, name), got in samples.items() if got}
        settings = {"rounds": options.rounds, "seconds": options.seconds, "idle_clients": options.idle, "scale": 10,
                    "pool_size": {"session": 80, "transaction": 20}, "workers": 1}
        versions = {"postgres": options.postgres, "pgbouncer": options.pgbouncer}
        write(options.out, "proxy", versions, settings, figures, medians)


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


def can(target, mode):
    """Before 1.21 PgBouncer has no prepared statements when each transaction may have another connection."""
    return not (mode == "prepared" and target.name == "pgbouncer_transaction")


main()
