"""Models that are all due at once: how many a second come to the target, by numbers of workers; by two sidecars; and by
Zync's design."""

import collections
import statistics

import load
from designs import Run, Sidecars, Zync
from figures import figure, ratios


def measure(options):
    run = Run(options)
    designs = {"sidecar": Sidecars(run), "zync_design": Zync(run)}
    numbers = sorted({options.workers, *options.growth})
    cases = [(name, [workers]) for workers in numbers for name in designs]
    # As many workers altogether as in the figures without a number.
    half = options.workers // 2
    if half:
        cases.append(("sidecar", [half, options.workers - half]))
    samples = collections.defaultdict(list)
    print(f"{options.rounds} rounds of up to {options.models} models; per second, from the first fetch to the last push",
          flush=True)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for name, workers in load.turns(cases, number):
            most = int(sum(workers) * 1e6 / (2 * options.latency) * options.seconds)
            work = run.converge(designs[name], min(options.models, most), workers)
            samples[name, tuple(workers)].append(work)
            print(f"  {' + '.join(map(str, workers)):>8} workers  {name:12} {work.rate:8.0f}/s of {work.limit:6.0f}/s "
                  f"{work.cpu:7.3f} + {work.postgres:.3f} ms CPU/model, at most {work.peak:.2f} cores", flush=True)
    return told(samples, options, numbers, half)


def told(samples, options, numbers, half):
    def rates(name, *workers):
        return [work.rate for work in samples[name, workers]]

    def limits(name, *workers):
        return [work.limit for work in samples[name, workers]]

    figures, medians = {}, {}
    for workers in [options.workers, *(each for each in numbers if each != options.workers)]:
        suffix = "" if workers == options.workers else f"_{workers}_workers"
        ours, theirs = rates("sidecar", workers), rates("zync_design", workers)
        figures[f"models_per_s{suffix}"] = figure(ours, "1/s")
        figures[f"converge_vs_limit{suffix}"] = figure(ratios(ours, limits("sidecar", workers)))
        figures[f"models_per_s_zync_design{suffix}"] = figure(theirs, "1/s")
        figures[f"models_per_s_vs_zync_design{suffix}"] = figure(ratios(ours, theirs))
    if half:
        pair = rates("sidecar", half, options.workers - half)
        figures["two_sidecars_models_per_s"] = figure(pair, "1/s")
        figures["two_sidecars_vs_one"] = figure(ratios(pair, rates("sidecar", options.workers)))
    for name in ("sidecar", "zync_design"):
        work = samples[name, (options.workers,)]
        figures[f"{name}_cpu_ms_per_model"] = figure([each.cpu for each in work], "ms")
        figures[f"{name}_postgres_cpu_ms_per_model"] = figure([each.postgres for each in work], "ms")
        figures[f"{name}_peak_cores"] = figure([max(each.peak for each in of) for of in by_round(samples, name)], "cores")
    for (name, workers), work in samples.items():
        medians[f"{name}_{'_and_'.join(map(str, workers))}"] = {
            "models": work[0].report["models"],
            "per_s": round(statistics.median(each.rate for each in work)),
            "vs_limit": round(statistics.median(each.rate / each.limit for each in work), 3),
            "cpu_ms_per_model": round(statistics.median(each.cpu for each in work), 3),
            "postgres_cpu_ms_per_model": round(statistics.median(each.postgres for each in work), 3),
            "peak_cores": round(statistics.median(each.peak for each in work), 2),
            "fetches_per_model": statistics.median(each.report["fetches"] / each.report["models"] for each in work),
            "pushes_per_model": statistics.median(each.report["pushes"] / each.report["models"] for each in work),
            "other_requests": statistics.median(each.report["others"] for each in work),
        }
    return figures, medians


def by_round(samples, name):
    return zip(*(work for (of, workers), work in samples.items() if of == name and len(workers) == 1))
