"""Models that are notified of again and again while the work goes on: how often each is fetched and pushed."""

import collections

from designs import Run, Sidecars, Zync
from figures import figure
from load import turns


def measure(options):
    run = Run(options)
    designs = {"sidecar": Sidecars(run), "zync_design": Zync(run)}
    reports = collections.defaultdict(list)
    print(f"{options.rounds} rounds of {options.burst} models, each notified of {options.times} times in a row; "
          f"{options.workers} workers", flush=True)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for name in turns(list(designs), number):
            report = run.burst(designs[name], options.burst, options.times, [options.workers])
            reports[name].append(report)
            print(f"  {name:12} {report['fetches'] / options.burst:6.2f} fetches and "
                  f"{report['pushes'] / options.burst:6.2f} pushes a model", flush=True)
    figures = {}
    for name, suffix in (("sidecar", ""), ("zync_design", "_zync_design")):
        for what, counted in (("pushes", "pushes"), ("fetches", "fetches")):
            each = [report[counted] / options.burst for report in reports[name]]
            figures[f"burst_{what}_per_model{suffix}"] = figure(each, what)
    return figures, {}
