"""Measures one phase with what run.sh set up; then prints the figures of all phases."""

import argparse
import importlib

from figures import keep, kept, show, write

PHASES = ("converge", "burst")


def main():
    options = parse()
    if options.what == "phase":
        figures, medians = importlib.import_module(options.phase).measure(options)
        keep(options.dir, options.phase, figures, medians)
        return
    figures, medians = kept(options.dir, PHASES)
    show(figures)
    if options.out:
        names = ("rounds", "models", "seconds", "workers", "growth", "burst", "times")
        settings = {"latency_ms": options.latency / 1000, **{name: getattr(options, name) for name in names}}
        write(options.out, "sync", {"postgres": options.postgres}, settings, figures, medians)


def parse():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", required=True, help="where a run keeps what it needs between its phases")
    common.add_argument("--rounds", type=int, required=True)
    common.add_argument("--models", type=int, required=True, help="the most that are notified of at once")
    common.add_argument("--seconds", type=float, required=True, help="of the models that workers are given")
    common.add_argument("--workers", type=int, required=True, help="of the figures without a number")
    common.add_argument("--growth", type=int, nargs="+", required=True, help="other numbers of workers")
    common.add_argument("--latency", type=int, required=True, help="microseconds, of source and target each")
    common.add_argument("--burst", type=int, required=True, help="models that are notified of again and again")
    common.add_argument("--times", type=int, required=True, help="how often they are")
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="what", required=True)
    phase = verbs.add_parser("phase", parents=[common])
    phase.add_argument("phase", choices=PHASES)
    phase.add_argument("--bin", required=True, help="the folder of psql")
    phase.add_argument("--binary", required=True, help="the sidecar's program")
    phase.add_argument("--peers", required=True, help="the program of source, target and Zync's design")
    phase.add_argument("--database", required=True, help="its URL, as a superuser")
    phase.add_argument("--api", required=True, help="address of the sidecar that takes notifications")
    phase.add_argument("--source", required=True, help="address that models are fetched from")
    phase.add_argument("--target", required=True, help="address that they are pushed to")
    results = verbs.add_parser("results", parents=[common])
    results.add_argument("--postgres", default="")
    results.add_argument("--out")
    return parser.parse_args()


main()
