"""Deliveries per second to 1, 10 and 100 stakeholders that are all told of the same rows, each by its socket; and to one
of 100, where the others don't listen."""

import collections
import statistics

from figures import figure
from load import turns
from receivers import SLOTS, Receivers, rates, ratio, shown

COUNTS = (1, 10, 100)

Kind = collections.namedtuple("Kind", "subscribed listening")


def measure(options):
    receivers = Receivers(options)
    stakeholders = receivers.stakeholders([f"reader_{number}" for number in range(max(COUNTS))])
    for number, stakeholder in enumerate(stakeholders):
        tables = [f"ticks_{count}" for count in COUNTS if number < count]
        receivers.subscribe(stakeholder, tables, {"type": "SOCKET"})
    receivers.database.until(r"1\|1", SLOTS)
    samples = collections.defaultdict(list)
    kinds = [*(Kind(count, count) for count in COUNTS), Kind(max(COUNTS), 1)]
    print(f"{options.rounds} rounds of {options.deliveries} deliveries at most, {options.burst} of them to each", flush=True)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for kind in turns(kinds, number):
            table, rows = f"ticks_{kind.subscribed}", min(options.burst, options.deliveries // kind.listening)
            receivers.database.empty(table)
            listener = receivers.sockets(stakeholders[:kind.listening], rows)
            try:
                sample = receivers.burst(listener, table, rows, min(1000, rows), kind.listening)
            finally:
                listener.close()
            samples[kind].append(sample)
            print(f"  {kind.subscribed:3} stakeholders, {kind.listening:3} of them listening  {shown(sample)}, "
                  f"{sample.rate / kind.listening:8.0f}/s each", flush=True)
    figures, medians, one = {}, {}, samples[kinds[0]]
    for kind in kinds:
        name = f"socket_{kind.subscribed}_stakeholders{'' if kind.subscribed == kind.listening else '_one_listens'}"
        if kind != kinds[0]:
            figures[f"{name}_vs_1"] = ratio(samples[kind], one)
        figures[f"{name}_deliveries_per_s"] = figure(rates(samples[kind]), "1/s")
        medians[name] = {"each_per_s": round(statistics.median(rates(samples[kind])) / kind.listening),
                         "cpu_s_per_million": round(statistics.median(sample.cpu for sample in samples[kind]), 2)}
    return figures, medians
