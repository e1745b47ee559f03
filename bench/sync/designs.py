"""Who brings models from the source to the target: sidecars, or Zync's design. Each is told of models, then it works, and
is stopped when the target has them all."""

import collections
import contextlib
import json
import os
import pathlib
import re
import selectors
import subprocess
import sys
import time
import urllib.request

import load

PATIENCE = 30
"""Seconds in which anything gets into a state that it was asked for."""

NOTIFIERS = 16
"""Notifications at once."""

Work = collections.namedtuple("Work", "rate limit cpu postgres peak report")
"""Models per second from the first fetch to the last push; what so many workers could do at most; milliseconds of CPU for
a model, of who works and of Postgres; the most cores that both were busy with for a quarter of a second; and what source and
target say."""


class Run:
    """What both have in common: the options, a database to ask, a source and a target."""

    def __init__(self, options):
        self.options = options
        with open(pathlib.Path(options.dir, "data/postmaster.pid"), encoding="ascii") as lines:
            self.postmaster = int(next(lines))

    def ask(self, sql):
        done = subprocess.run([f"{self.options.bin}/psql", "--no-psqlrc", "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", sql,
                               self.options.database], capture_output=True, text=True, timeout=600)
        if done.returncode:
            sys.exit(f"{sql}: {done.stderr.strip()}")
        return done.stdout.strip()

    def until(self, wanted, sql):
        end = time.monotonic() + PATIENCE
        while not re.fullmatch(wanted, found := self.ask(sql)):
            if time.monotonic() > end:
                sys.exit(f"{sql}: it is {found} and not {wanted}")
            time.sleep(0.05)

    def tell(self, *words, token=""):
        """Runs one of the peers' orders to its end."""
        done = subprocess.run([self.options.peers, *map(str, words)], capture_output=True, text=True, timeout=600,
                              env={**os.environ, "TOKEN": token})
        if done.returncode:
            sys.exit(f"{words[0]}: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def ends(self, models, quiet=0):
        """Source and target, which report when the target has so many models and nobody has asked for `quiet` ms."""
        options = self.options
        words = ["peers", options.source, options.target, options.latency, models, quiet]
        process = subprocess.Popen([options.peers, *map(str, words)], stdout=subprocess.PIPE)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(PATIENCE) or process.stdout.readline() != b"ready\n":
                    sys.exit("source and target do not begin")
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.stdout.close()
            process.wait()

    def used(self, pids):
        """Seconds of CPU so far, of these processes and of Postgres. None of its own ends during the work."""
        return sum(map(load.cpu_seconds, pids)), load.cpu_seconds(self.postmaster)

    def wait(self, ends, models, pids, patience):
        """What source and target report, the CPU that was used, and the most cores at once."""
        began = before = self.used(pids)
        at, end, peak = time.monotonic(), time.monotonic() + patience, 0
        while ends.poll() is None:
            if time.monotonic() > end:
                ends.terminate()
                sys.exit(f"not all {models} models came within {patience} s, only {ends.communicate()[0].decode().strip()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                ends.wait(0.25)
            now, used = time.monotonic(), self.used(pids)
            if now - at > 0.2:
                peak = max(peak, (sum(used) - sum(before)) / (now - at))
                at, before = now, used
        report = json.loads(ends.stdout.read())
        if report["models"] != models or report["stale"]:
            sys.exit(f"{models} models were to come as the source has them, but this came: {report}")
        return report, *(after - start for after, start in zip(self.used(pids), began)), peak

    def converge(self, design, models, workers):
        """How fast so many models come that are all due when the work begins."""
        design.notify(models, 1)
        with self.ends(models) as ends, design.at_work(workers) as pids:
            report, cpu, postgres, peak = self.wait(ends, models, pids, 60 + models / 20)
        took = (report["last_us"] - report["first_us"]) / 1e6
        limit = sum(workers) * 1e6 / (2 * self.options.latency)
        return Work(models / took, limit, cpu / models * 1000, postgres / models * 1000, peak, report)

    def burst(self, design, models, times, workers):
        """What source and target are asked when each model is notified of again and again, during the work."""
        with self.ends(models, quiet=5000) as ends, design.at_work(workers) as pids:
            design.notify(models, times)
            return self.wait(ends, models, pids, 120)[0]


class Sidecars:
    """As many sidecars as numbers of workers, beside the one that takes notifications."""

    def __init__(self, run):
        self.run, self.token = run, os.environ["SYNC_TOKEN"]
        options = run.options
        self.put("/tenant", {"tenant": {"id": 1, "endpoint": f"http://{options.source}", "access_token": "only for this"}})
        # As in Zync, the proxy of a service says where its clients go.
        self.put("/notification", {"type": "Proxy", "id": 1, "service_id": 1, "tenant_id": 1})
        with run.ends(1), self.at_work([1]):
            run.until("1", "SELECT count(*) FROM integratedb.sync_integration WHERE state = 'active'")
            self.rests()

    def put(self, path, body):
        request = urllib.request.Request(f"http://{self.run.options.api}{path}", json.dumps(body).encode(), method="PUT")
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f'Token token="{self.token}"')
        # No proxy could help with an address of this machine.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20):
            pass

    def notify(self, models, times):
        return self.run.tell("notify", self.run.options.api, models, times, NOTIFIERS, token=self.token)

    def rests(self):
        """Waits until nothing is due, so that the next work begins with what it is given."""
        self.run.until("0", "SELECT (SELECT count(*) FROM integratedb.sync_update WHERE due_at IS NOT NULL)"
                            " + (SELECT count(*) FROM integratedb.sync_state WHERE due_at IS NOT NULL)")

    @contextlib.contextmanager
    def at_work(self, workers):
        options, started = self.run.options, []
        front = pathlib.Path(options.dir, "sidecar.toml").read_text(encoding="utf-8")
        try:
            for number, count in enumerate(workers):
                config = pathlib.Path(options.dir, f"worker_{number}.toml")
                text = re.sub("^listen = .*$", 'listen = "127.0.0.1:0"', front, flags=re.MULTILINE)
                text = text.replace("enabled = false", f"workers = {count}\nworkers_per_tenant = {2 * count}")
                config.write_text(text, encoding="utf-8")
                with open(config.with_suffix(".log"), "ab") as log:
                    started.append(subprocess.Popen([options.binary, "serve", "--config", config], stdout=log,
                                                    stderr=subprocess.STDOUT))
            yield [process.pid for process in started]
            self.rests()
        finally:
            stop(started)


class Zync:
    """Its design: a process with so many workers, each with a connection of its own."""

    def __init__(self, run):
        self.run = run

    def notify(self, models, times):
        return self.run.tell("zync-notify", self.run.options.database, models, times)

    @contextlib.contextmanager
    def at_work(self, workers):
        options, [count] = self.run.options, workers
        # Makes the tables where they are not there yet.
        self.notify(0, 1)
        process = subprocess.Popen([options.peers, "zync", options.database, options.source, options.target, str(count)])
        try:
            yield [process.pid]
            self.run.until("0", "SELECT count(*) FROM zync.job")
        finally:
            stop([process])


def stop(processes):
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
