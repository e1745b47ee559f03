"""Point lookups of 1,000 keys that are all kept, and an aggregate: throughput, and CPU of what stands between."""

import collections
import re
import subprocess
import sys

import load
import queries
from figures import figure, ratios
from rest import Api

KEYS = 1000
MODES = ("simple", "prepared")
CLIENTS = (1, 8)

# The figures: a name, a measure, and of which two kinds of run it is the ratio.
RATIOS = (
    ("hit_prepared_c8_vs_responder", "tps", ("prepared", 8, "cache"), ("prepared", 8, "responder")),
    ("hit_prepared_c8_vs_direct", "tps", ("prepared", 8, "cache"), ("prepared", 8, "direct")),
    ("hit_prepared_c8_vs_pgpool", "tps", ("prepared", 8, "cache"), ("prepared", 8, "pgpool")),
    ("hit_simple_c8_vs_pgpool", "tps", ("simple", 8, "cache"), ("simple", 8, "pgpool")),
    ("hit_simple_c8_vs_redis_get", "tps", ("simple", 8, "cache"), ("get", 8, "redis")),
    ("hit_simple_c8_vs_responder", "tps", ("simple", 8, "cache"), ("simple", 8, "responder")),
    ("hit_simple_c8_vs_direct", "tps", ("simple", 8, "cache"), ("simple", 8, "direct")),
    ("hit_prepared_c1_vs_responder", "tps", ("prepared", 1, "cache"), ("prepared", 1, "responder")),
    ("hit_prepared_c1_vs_direct", "tps", ("prepared", 1, "cache"), ("prepared", 1, "direct")),
    ("hit_cpu_prepared_c8_vs_responder", "cpu", ("prepared", 8, "cache"), ("prepared", 8, "responder")),
    ("responder_prepared_c8_vs_direct", "tps", ("prepared", 8, "responder"), ("prepared", 8, "direct")),
)


def measure(options, targets):
    cache, pgpool, redis = (targets.get(name) for name in ("cache", "pgpool", "redis"))
    counters = {}
    if cache:
        counters["cache"] = CacheHits(options, "bench")
    if pgpool:
        counters["pgpool"] = PgpoolHits(options, pgpool)
    if redis:
        fill_redis(redis)
    for name in counters:
        # Twice: until its table is published, which the first asks for, an answer is not kept.
        for mode in MODES * 2:
            queries.walk(options, targets[name], mode, KEYS)
    samples, aggregates = collections.defaultdict(list), []

    def note(mode, clients, target, sample):
        samples[mode, clients, target.name].append(sample)
        print(f"  {mode:8} {clients:2} clients  {target.name:10} {load.shown(sample)}", flush=True)

    print(f"{options.rounds} rounds of {options.seconds} s; hits per second, and CPU of what stands between", flush=True)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for clients in CLIENTS:
            for mode in MODES:
                for target in load.turns(list(targets.values()), number):
                    if target.name != "redis":
                        note(mode, clients, target, run(options, target, mode, clients, ["point"], counters))
                    elif mode == "simple":
                        note("get", clients, target, redis_get(options, target, clients))
        if cache:
            queries.run_once(options, cache, "prepared", "aggregate")
            # In one run, by turns: where a processor goes to sleep, one client's latency changes from run to run.
            sample = run(options, cache, "prepared", 1, ["point", "aggregate"], counters)
            point, aggregate = sample.by_script
            aggregates.append(aggregate.milliseconds / point.milliseconds)
            print(f"  aggregate {aggregate.milliseconds} ms, point lookup {point.milliseconds} ms", flush=True)
    figures = {}
    for name, unit, above, below in RATIOS:
        found = ratios(*([getattr(sample, unit) for sample in samples[kind]] for kind in (above, below)))
        if found:
            figures[name] = figure(found)
    if aggregates:
        figures["aggregate_hit_vs_point_hit"] = figure(aggregates)
    medians = {}
    for (mode, clients, name), got in samples.items():
        if got:
            middle = load.median(got)
            medians[f"{mode}_c{clients}_{name}"] = {"tps": round(middle.tps), "cpu_us": round(middle.cpu, 1)}
    return figures, medians


def run(options, target, mode, clients, scripts, counters):
    """A sample, which of a cache counts only if that has answered."""
    counter = counters.get(target.name)
    before = counter.hits(scripts) if counter else 0
    sample = queries.run(options, target, mode, clients, scripts, KEYS)
    if counter and not queries.enough(hits := counter.hits(scripts) - before, sample.queries):
        counter.complain(scripts, f"{target.name} answered only {hits} of {sample.queries} queries from its cache")
    return sample


class CacheHits:
    def __init__(self, options, cache):
        self.api, self.cache = Api(options), cache
        self.api.until_serving(cache)

    def hits(self, scripts):
        return sum(self.api.hits(self.cache, queries.READS[script]) for script in scripts)

    def complain(self, scripts, what):
        self.api.complain(self.cache, queries.READS[scripts[-1]], what)


class PgpoolHits:
    def __init__(self, options, target):
        self.command = [f"{options.bin}/psql", "--no-psqlrc", "-qXAt", "-c", "SHOW pool_cache", target.url]

    def hits(self, _):
        """The first of what it says of its cache."""
        return int(self.told().split("|")[0])

    def complain(self, _, what):
        sys.exit(f"{what}, and says of it {self.told()}")

    def told(self):
        done = subprocess.run(self.command, capture_output=True, text=True, timeout=20)
        if done.returncode:
            sys.exit(f"Pgpool-II does not tell its hits: {done.stderr.strip()}")
        return done.stdout.strip()


def port_of(redis):
    return redis.url.rpartition(":")[2]


def redis_cli(redis, *words, stdin=None):
    done = subprocess.run(["redis-cli", "-h", "127.0.0.1", "-p", port_of(redis), *words], input=stdin,
                          capture_output=True, text=True, timeout=20)
    if done.returncode:
        sys.exit(f"Redis does not answer: {done.stderr.strip()}")
    return done.stdout


def fill_redis(redis):
    """With what redis-benchmark asks for."""
    redis_cli(redis, stdin="".join(f"SET key:{key:012} 0\n" for key in range(KEYS)))


def redis_hits(redis):
    return int(re.search(r"keyspace_hits:(\d+)", redis_cli(redis, "info", "stats"))[1])


def redis_get(options, redis, clients):
    """It runs for a number of requests and not for a time, so a short run tells how many."""
    rate = redis_benchmark(redis, clients, 10_000)
    count = max(10_000, int(rate * options.seconds))
    hits, cpu = redis_hits(redis), load.cpu_seconds(redis.pid)
    rate = redis_benchmark(redis, clients, count)
    if not queries.enough(found := redis_hits(redis) - hits, count):
        sys.exit(f"Redis found only {found} of {count} keys")
    return load.Sample(rate, (load.cpu_seconds(redis.pid) - cpu) / count * 1e6, count)


def redis_benchmark(redis, clients, count):
    command = ["redis-benchmark", "-h", "127.0.0.1", "-p", port_of(redis), "-t", "get", "-r", str(KEYS),
               "-c", str(clients), "-n", str(count), "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'^"GET","([0-9.]+)"', done.stdout, re.MULTILINE)
    if done.returncode or not found:
        sys.exit(f"redis-benchmark failed: {done.stdout[-500:]} {done.stderr.strip()[-500:]}")
    return float(found[1])
