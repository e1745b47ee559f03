"""Measures the targets that run.sh set up, one phase at a time; then prints the figures of all phases."""

import argparse
import importlib

from figures import keep, kept, show, write
from load import read_targets

PHASES = ("hits", "growth", "invalidation", "mixed")


def main():
    options = parse()
    if options.what == "phase":
        targets = {target.name: target for target in read_targets(options.targets)}
        figures, medians = importlib.import_module(options.phase).measure(options, targets)
        keep(options.dir, options.phase, figures, medians)
        return
    figures, medians = kept(options.dir, PHASES)
    show(figures)
    if options.out:
        settings = {"rounds": options.rounds, "seconds": options.seconds, "commits": options.commits, "scale": 10,
                    "hot_keys": 1000, "workers": 1, "consistency": "read_your_writes", "zipfian": 1.1}
        versions = {"postgres": options.postgres, "pgpool": options.pgpool, "redis": options.redis}
        write(options.out, "cache", versions, settings, figures, medians)


def parse():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", required=True, help="where a run keeps what it needs between its phases")
    common.add_argument("--rounds", type=int, required=True)
    common.add_argument("--seconds", type=int, required=True, help="of one measurement")
    common.add_argument("--commits", type=int, required=True, help="of one round of invalidations")
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="what", required=True)
    phase = verbs.add_parser("phase", parents=[common])
    phase.add_argument("phase", choices=PHASES)
    phase.add_argument("--targets", required=True)
    phase.add_argument("--bin", required=True, help="the folder of pgbench, psql and pg_recvlogical")
    phase.add_argument("--api", required=True, help="the sidecar's REST API")
    results = verbs.add_parser("results", parents=[common])
    results.add_argument("--postgres", default="")
    results.add_argument("--pgpool", default="")
    results.add_argument("--redis", default="")
    results.add_argument("--out")
    return parser.parse_args()


main()
