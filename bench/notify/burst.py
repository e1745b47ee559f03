"""Changes that are committed as fast as it goes: events per second by a socket and by a Redis stream, beside
pg_recvlogical; in transactions of a thousand rows, and in one."""

import collections
import statistics

import load
from figures import figure
from receivers import Receivers, rates, ratio, shown

RECEIVERS = ("recvlogical", "socket", "redis")


def measure(options):
    receivers = Receivers(options)
    samples = collections.defaultdict(list)
    print(f"{options.rounds} rounds of {options.burst} changes; per second, from the first commit to the last event",
          flush=True)
    shapes = {"": 1000, "_one_transaction": options.burst}
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for name in load.turns(list(RECEIVERS), number):
            for shape, each in shapes.items():
                receivers.database.empty("ticks")
                with receivers.receiver(name, options.burst) as listener:
                    sample = receivers.burst(listener, "ticks", options.burst, each)
                samples[name, shape].append(sample)
                print(f"  {each:8} rows a transaction  {name:12} {shown(sample)}", flush=True)
    receivers.only(None)
    figures, medians = {}, {}
    for shape in shapes:
        for name in RECEIVERS[1:]:
            figures[f"{name}{shape}_vs_recvlogical"] = ratio(samples[name, shape], samples["recvlogical", shape])
    for name in RECEIVERS:
        what = "changes" if name == "recvlogical" else "events"
        figures[f"{name}_{what}_per_s"] = figure(rates(samples[name, ""]), "1/s")
        if name != "recvlogical":
            figures[f"{name}_cpu_s_per_million"] = figure([sample.cpu for sample in samples[name, ""]], "s")
    for (name, shape), got in samples.items():
        medians[f"burst{shape}_{name}"] = {
            "per_s": round(statistics.median(rates(got))),
            "cpu_s_per_million": round(statistics.median(sample.cpu for sample in got), 2),
            **({} if shape else {"committed_per_s": round(statistics.median(sample.write_rate for sample in got))}),
        }
    return figures, medians
