"""What a hit costs as a cache holds more entries, and what an entry takes beside its answer."""

import collections

import load
import queries
from figures import figure, ratios
from rest import Api

CLIENTS = 8
POINT = queries.READS["point"]


def measure(options, targets):
    api = Api(options)
    sizes = {int(name.removeprefix("keys_")): target for name, target in targets.items()}
    for size, target in sizes.items():
        api.until_serving(target.name)
        # Until its table is published, which the first asks for, an answer is not kept.
        queries.walk(options, target, "prepared", 100)
        sample = queries.walk(options, target, "prepared", size)
        held = api.caching(target.name)
        print(f"{size:8} entries, filled at {load.shown(sample)}, {held['bytes'] / held['entries']:.0f} bytes each", flush=True)
        if held["entries"] < size:
            api.complain(target.name, POINT, f"the cache holds {held['entries']} entries of {size}")
    samples = collections.defaultdict(list)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for size, target in load.turns(list(sizes.items()), number):
            before = api.hits(target.name, POINT)
            sample = queries.run(options, target, "prepared", CLIENTS, ["point"], size)
            if not queries.enough(hits := api.hits(target.name, POINT) - before, sample.queries):
                api.complain(target.name, POINT, f"only {hits} of {sample.queries} queries were hits")
            samples[size].append(sample.tps)
            print(f"  {size:8} entries  {load.shown(sample)}", flush=True)
    figures = {}
    smallest, largest = min(sizes), max(sizes)
    for size, got in samples.items():
        figures[f"hit_prepared_c8_{short(size)}_tps"] = figure(got, "tps")
        if size != smallest:
            figures[f"hit_{short(size)}_entries_vs_{short(smallest)}"] = figure(ratios(got, samples[smallest]))
    held = api.caching(sizes[largest].name)
    figures["bytes_per_entry_overhead"] = figure([(held["bytes"] - held["answer_bytes"]) / held["entries"]], "bytes")
    return figures, {"bytes_per_entry": round(held["bytes"] / held["entries"])}


def short(size):
    """10000 as 1e4."""
    return f"{size:.0e}".replace("e+0", "e")
