"""Events per second by webhooks, beside their own client that sends the same bodies to the same receiver without reading
them from anywhere."""

import collections
import json
import statistics
import subprocess
import sys

from figures import figure, ratios
from load import turns
from receivers import CONCURRENCY, Listener, Receivers, rates, shown

BATCHES = {100: "", 1: "_single"}
"""The most events of a request."""


def measure(options):
    receivers = Receivers(options)
    samples, limits = collections.defaultdict(list), collections.defaultdict(list)
    print(f"{options.rounds} rounds of {options.burst} changes, a tenth where each is a request; {CONCURRENCY} requests "
          "at once", flush=True)
    for number in range(options.rounds):
        print(f"round {number + 1}", flush=True)
        for batch in BATCHES:
            count = options.burst if batch > 1 else options.burst // 10
            # What is posted has to have been received, in the first round before.
            for what in ["webhook", "limit"] if number == 0 else turns(["webhook", "limit"], number):
                body = receivers.body.with_name(f"body{batch}")
                if what == "webhook":
                    receivers.database.empty("ticks")
                    with receivers.receiver("webhook", count, batch=batch) as listener:
                        sample = receivers.burst(listener, "ticks", count, 1000)
                    receivers.body.replace(body)
                    samples[batch].append(sample)
                    print(f"  up to {batch:3} events a request  webhook  {shown(sample)}", flush=True)
                else:
                    limits[batch].append(limit(options, body, count))
                    print(f"  up to {batch:3} events a request  limit    {limits[batch][-1]:10.0f}/s", flush=True)
    receivers.only(None)
    figures, medians = {}, {}
    for batch, name in BATCHES.items():
        figures[f"webhook{name}_vs_client_limit"] = figure(ratios(rates(samples[batch]), limits[batch]))
        figures[f"webhook{name}_events_per_s"] = figure(rates(samples[batch]), "1/s")
        figures[f"webhook{name}_cpu_s_per_million"] = figure([sample.cpu for sample in samples[batch]], "s")
        medians[f"client_limit{name}_per_s"] = round(statistics.median(limits[batch]))
    return figures, medians


def limit(options, body, count):
    """Events per second, from the first request to the last one that was received."""
    events = body.read_bytes().count(b'"record":')
    requests = -(-count // events)
    listener = Listener(options, "webhook", options.webhook, requests * events)
    try:
        url = f"http://{options.webhook}/"
        posted = subprocess.run([options.listener, "post", url, str(body), str(requests), str(CONCURRENCY)],
                                capture_output=True, text=True, timeout=600)
        if posted.returncode:
            sys.exit(f"the client of webhooks fails: {posted.stderr.strip()}")
        received = listener.report(60)
    finally:
        listener.close()
    return received["events"] / (received["last_us"] - json.loads(posted.stdout)["first_us"]) * 1e6
