"""Who receives: the same rows by each channel, and out of the database by pg_recvlogical. One at a time: the others are
not subscribed, and where nobody is, the sidecar does not read."""

import collections
import contextlib
import json
import os
import pathlib
import selectors
import subprocess
import sys
import time

import load
from database import PATIENCE, Database
from figures import figure, ratios
from sidecar import Sidecar

SLOTS = """SELECT count(*) FILTER (WHERE active), count(*) FROM pg_replication_slots
           WHERE slot_name LIKE 'integratedb_notify%'"""
"""How many of the sidecar's slots are read from, and how many there are."""

BEGUN = "SELECT count(*) FROM integratedb.channel JOIN integratedb.channel_state ON channel_id = id WHERE lease > 0"
"""How many channels somebody has begun to deliver to."""

CONCURRENCY = 4
"""Requests of a webhook at once."""

FIELDS = ("id", "sent_at", "payload")

Sample = collections.namedtuple("Sample", "rate cpu write_rate report")
"""Events per second from the first commit to the last event; seconds of the sidecar's CPU for a million events, 0 where it
has no part in it; rows per second that were committed; and what the listener says."""


class Listener:
    """The program that receives, as soon as it does. See bench/listener."""

    def __init__(self, options, *words, stdin=None, token=""):
        self.words = [str(word) for word in words]
        self.process = subprocess.Popen([options.listener, *self.words], stdin=stdin, stdout=subprocess.PIPE,
                                        env={**os.environ, "TOKEN": token})
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE) or self.process.stdout.readline() != b"ready\n":
                self.process.kill()
                sys.exit(f"the listener does not begin: {' '.join(self.words[:4])}")

    def report(self, patience):
        """What it has received, when it has received all."""
        try:
            out, _ = self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            out, _ = self.process.communicate(timeout=PATIENCE)
            sys.exit(f"not all came within {patience} s, only {out.decode().strip()}: {' '.join(self.words[:4])}")
        if self.process.returncode:
            sys.exit(f"the listener fails: {' '.join(self.words[:4])}")
        return json.loads(out)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.stdout.close()
        self.process.wait()


class Receivers:
    def __init__(self, options):
        self.options, self.database = options, Database(options)
        self.api = Sidecar(f"http://{options.api}", options.dir)
        [self.reader] = self.stakeholders(["reader"])
        self.body = pathlib.Path(options.dir, "body")
        self.channel, self.made = None, 0

    def stakeholders(self, names):
        """Their ids; those that are not there are made."""
        path = "/api/v1/stakeholders"
        there = {found["name"]: found["id"] for found in self.api.call(path)["data"]}
        return [there.get(name) or self.api.call(path, {"stakeholder": {"name": name}})["data"]["id"] for name in names]

    def subscribe(self, stakeholder, tables, channel):
        match = [{"path": f"public.{table}", "events": ["INSERT"], "fields": list(FIELDS), "channels": ["*"]}
                 for table in tables]
        document = {"data": {"match": match, "channels": [channel]}}
        self.api.call(f"/api/v1/stakeholders/{stakeholder}/notifications", document, "PUT")

    def unsubscribe(self, stakeholder):
        self.api.call(f"/api/v1/stakeholders/{stakeholder}/notifications", method="DELETE")

    def only(self, channel):
        """Has the reader told of `ticks` by this channel and by no other; without one, nobody is told of anything."""
        if channel == self.channel:
            return
        if channel:
            if not self.channel:
                # It gives its slot back shortly after nobody subscribes: then there is nothing to catch up with.
                self.database.until(r"0\|0", SLOTS)
            # By another name it is another channel, which nobody delivers to yet.
            self.made += 1
            self.subscribe(self.reader, ["ticks"], {**channel, "name": f"channel_{self.made}"})
            self.database.until(r"1\|1", SLOTS)
            if channel["type"] != "SOCKET":
                # Then it is delivered to, and no other is.
                self.database.until("1", f"{BEGUN} AND name = 'channel_{self.made}'")
            elif self.channel:
                # The sidecar looks twice a second for what is to be delivered, and nothing tells that it stopped.
                time.sleep(1)
        else:
            self.unsubscribe(self.reader)
            self.database.until(r"0\|\d", SLOTS)
        self.channel = channel

    @contextlib.contextmanager
    def receiver(self, name, count, at_once=False, batch=100):
        """A listener to `ticks` that expects so many events: `socket`, `redis`, `webhook` or `recvlogical`. `at_once`: each
        is to be noted when it comes, whatever that costs."""
        options = self.options
        self.only(self.channel_of(name, batch))
        with contextlib.ExitStack() as stack:
            if name == "socket":
                listener = self.sockets([self.reader], count)
            elif name == "redis":
                self.redis("DEL", "ticks")
                listener = Listener(options, "redis", options.redis, count, "ticks")
            elif name == "webhook":
                listener = Listener(options, "webhook", options.webhook, count, self.body)
            else:
                written = stack.enter_context(self.database.recvlogical())
                listener = Listener(options, "recvlogical", count, *(["now"] if at_once else []), stdin=written)
            stack.callback(listener.close)
            yield listener

    def sockets(self, stakeholders, count):
        return Listener(self.options, "socket", self.options.api, count, *stakeholders, token=self.api.token)

    def channel_of(self, name, batch):
        if name == "redis":
            return {"type": "REDIS", "url": f"redis://{self.options.redis}", "key": "ticks"}
        if name == "webhook":
            return {"type": "WEBHOOK", "url": f"http://{self.options.webhook}/", "batch": {"max_events": batch},
                    "concurrency": CONCURRENCY}
        return {"type": "SOCKET"} if name == "socket" else None

    def redis(self, *words):
        host, port = self.options.redis.split(":")
        subprocess.run(["redis-cli", "-h", host, "-p", port, *words], check=True, capture_output=True, timeout=PATIENCE)

    def burst(self, listener, table, rows, each, times=1):
        """A sample of rows that each come so many times."""
        before = load.cpu_seconds(self.options.sidecar)
        self.database.burst(table, rows, each)
        report = listener.report(60 + rows * times / 1000)
        cpu = load.cpu_seconds(self.options.sidecar) - before if listener.words[0] != "recvlogical" else 0
        written = self.database.written(table)
        self.check(report, written, times)
        took = (report["last_us"] - written.first_us) / 1e6
        writing = max(written.last_us - written.first_us, 1) / 1e6
        return Sample(rows * times / took, cpu / (rows * times) * 1e6, rows / writing, report)

    def check(self, report, written, times=1):
        """Each row came, and each came once to each."""
        if (report["events"], report["sum"]) != (written.rows * times, written.sum * times):
            sys.exit(f"{written.rows} rows were to come {times} times, with ids whose sum is {written.sum}, "
                     f"but this came: {report}")


def shown(sample):
    cpu = f"{sample.cpu:7.2f} s CPU/million" if sample.cpu else ""
    return f"{sample.rate:10.0f}/s  {cpu}"


def rates(samples):
    return [sample.rate for sample in samples]


def ratio(above, below):
    return figure(ratios(rates(above), rates(below)))
