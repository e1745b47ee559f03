"""Measures one phase with what run.sh set up; then prints the figures of all phases."""

import argparse
import importlib

from figures import keep, kept, show, write

PHASES = ("burst", "webhook", "latency", "large", "growth")


def main():
    options = parse()
    if options.what == "phase":
        figures, medians = importlib.import_module(options.phase).measure(options)
        keep(options.dir, options.phase, figures, medians)
        return
    figures, medians = kept(options.dir, PHASES)
    show(figures)
    if options.out:
        settings = {"rounds": options.rounds, "burst": options.burst, "seconds": options.seconds, "rate": options.rate,
                    "deliveries": options.deliveries, "large": options.large,
                    "rows_in_a_transaction": 1000, "webhook": {"max_events": [100, 1], "concurrency": 4}}
        versions = {"postgres": options.postgres, "redis": options.redis_version}
        write(options.out, "notify", versions, settings, figures, medians)


def parse():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", required=True, help="where a run keeps what it needs between its phases")
    common.add_argument("--rounds", type=int, required=True)
    common.add_argument("--burst", type=int, required=True, help="changes that are committed as fast as it goes")
    common.add_argument("--seconds", type=int, required=True, help="of paced commits")
    common.add_argument("--rate", type=int, required=True, help="of paced commits, a second")
    common.add_argument("--deliveries", type=int, required=True, help="of one burst to all stakeholders together")
    common.add_argument("--large", type=int, required=True, help="rows of a large transaction")
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="what", required=True)
    phase = verbs.add_parser("phase", parents=[common])
    phase.add_argument("phase", choices=PHASES)
    phase.add_argument("--bin", required=True, help="the folder of pgbench, psql and pg_recvlogical")
    phase.add_argument("--listener", required=True, help="the program that receives")
    phase.add_argument("--database", required=True, help="its URL, as a superuser")
    phase.add_argument("--api", required=True, help="address of the sidecar's REST API")
    phase.add_argument("--sidecar", type=int, required=True, help="its process")
    phase.add_argument("--redis", required=True, help="address of a Redis")
    phase.add_argument("--webhook", required=True, help="address to receive webhooks at")
    results = verbs.add_parser("results", parents=[common])
    results.add_argument("--postgres", default="")
    results.add_argument("--redis-version", default="")
    results.add_argument("--out")
    return parser.parse_args()


main()
