"""A transaction of a million rows to a socket, beside pg_recvlogical, and how much memory the sidecar takes for it."""

import collections
import pathlib

from figures import figure
from load import turns
from receivers import Receivers, rates, ratio, shown


def measure(options):
    receivers = Receivers(options)
    samples, peaks = collections.defaultdict(list), []
    # One takes as long as many bursts.
    rounds = min(options.rounds, 3)
    before = mib(options.sidecar, "VmRSS")
    print(f"{rounds} rounds of a transaction of {options.large} rows; {before:.0f} MiB before", flush=True)
    for number in range(rounds):
        print(f"round {number + 1}", flush=True)
        for name in turns(["socket", "recvlogical"], number):
            receivers.database.empty("ticks")
            with receivers.receiver(name, options.large) as listener:
                forget_peak(options.sidecar)
                samples[name].append(receivers.burst(listener, "ticks", options.large, options.large))
            told = ""
            if name == "socket":
                peaks.append(mib(options.sidecar, "VmHWM"))
                told = f"{peaks[-1]:8.0f} MiB"
            print(f"  {name:12} {shown(samples[name][-1])} {told}", flush=True)
    receivers.only(None)
    name = f"rows_{options.large:.0e}".replace("e+0", "e")
    return {
        f"{name}_peak_mib": figure(peaks, "MiB"),
        f"{name}_changes_per_s": figure(rates(samples["socket"]), "1/s"),
        f"{name}_vs_recvlogical": ratio(samples["socket"], samples["recvlogical"]),
    }, {}


def mib(pid, field):
    with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def forget_peak(pid):
    """From here on VmHWM is of what is to come. See proc(5), clear_refs."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
