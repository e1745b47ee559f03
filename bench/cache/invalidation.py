"""How soon a commit at the origin, around the proxy, is seen: by a reader through the cache that asks as fast as it
can, and by pg_recvlogical. All times are of one clock, and begin when the COMMIT is sent."""

import contextlib
import multiprocessing
import random
import re
import statistics
import struct
import subprocess
import sys
import time

import client
from figures import figure, ratios
from rest import Api

FIRST = 1_000_000
"""Commits are numbered from here on, so that all numbers have as many digits."""

TIMEOUT = 20
"""Seconds until a commit has to be seen."""

READY = b"Z\0\0\0\5I"
VALUE = re.compile(rb"D\x00\x00\x00\x11\x00\x01\x00\x00\x00\x07(\d{7})")
"""A row of one number."""

QUERY = "SELECT value FROM ticks WHERE id = $1"
READ = "select value from ticks"


def measure(options, targets):
    api = Api(options)
    api.until_serving("bench")
    direct, cache = targets["direct"], targets["cache"]
    committer = client.log_in(direct.url)
    answers = committer.makefile("rb")
    ask(committer, answers, f"UPDATE ticks SET value = {FIRST}")
    found = {"cache": [], "recvlogical": []}
    number = FIRST
    # Not by threads, which would wait for each other.
    with (recvlogical(options.bin, direct.url) as stream, watcher(receive, stream) as received,
          watcher(poll, cache.url) as cached):
        number += 1
        commit(committer, answers, number)
        # Both are there.
        expect(cached, number)
        expect(received, number)
        for turn in range(options.rounds):
            took = {"cache": [], "recvlogical": []}
            before, began = api.hits("bench", READ), time.monotonic()
            for _ in range(options.commits):
                number += 1
                sent = commit(committer, answers, number)
                took["cache"].append((expect(cached, number) - sent) / 1000)
                took["recvlogical"].append((expect(received, number) - sent) / 1000)
                # Neither in step with anything that happens at intervals, nor the one straight after the other.
                time.sleep(random.uniform(0.002, 0.006))
            hits = api.hits("bench", READ) - before
            # One is fetched after each commit; nearly all others are hits, or this measures the origin.
            if hits < 2 * options.commits:
                api.complain("bench", READ, f"only {hits} reads between {options.commits} commits came from the cache")
            line = [f"{name} {quantile(times, 50):.0f} and {quantile(times, 99):.0f} µs" for name, times in took.items()]
            print(f"round {turn + 1}: median and 99th percentile of {options.commits} commits: {', '.join(line)}; "
                  f"{hits / (time.monotonic() - began):.0f} hits/s", flush=True)
            for name, times in took.items():
                found[name].append(times)
    committer.close()
    figures, medians = {}, {}
    for percent in (50, 99):
        by_name = {name: [quantile(times, percent) for times in rounds] for name, rounds in found.items()}
        figures[f"invalidation_p{percent}_vs_recvlogical"] = figure(ratios(by_name["cache"], by_name["recvlogical"]))
        for name, values in by_name.items():
            medians[f"commit_to_{name}_p{percent}_us"] = round(statistics.median(values))
    return figures, medians


def commit(connection, answers, number):
    """Gives when its COMMIT was sent."""
    ask(connection, answers, "BEGIN")
    ask(connection, answers, f"UPDATE ticks SET value = {number} WHERE id = 1")
    sent = time.monotonic_ns()
    ask(connection, answers, "COMMIT")
    return sent


def ask(connection, answers, text):
    connection.sendall(frame(b"Q", text.encode() + b"\0"))
    while True:
        kind, body = client.message(answers)
        if kind == b"E":
            raise SystemExit(f"{text} is answered {body!r}")
        if kind == b"Z":
            return


def quantile(times, percent):
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]


@contextlib.contextmanager
def watcher(work, *arguments):
    """A process that tells each number it sees and when."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        # It says when it has begun.
        if not ours.poll(TIMEOUT):
            sys.exit(f"{work.__name__} does not begin")
        ours.recv()
        yield ours
    finally:
        process.terminate()
        process.join()


def expect(watched, number):
    """When it was seen, in nanoseconds."""
    while True:
        if not watched.poll(TIMEOUT):
            sys.exit(f"commit {number} was not seen within {TIMEOUT} s")
        seen, when = watched.recv()
        if seen == number:
            return when


def poll(tell, url):
    """Asks by a prepared statement."""
    connection = client.log_in(url)
    kind = struct.pack("!hi", 1, 23)
    parse = frame(b"P", b"ticks\0" + QUERY.encode() + b"\0" + kind)
    connection.sendall(parse + frame(b"S"))
    until_ready(connection)
    bind = frame(b"B", b"\0ticks\0" + struct.pack("!hhi", 0, 1, 1) + b"1" + struct.pack("!h", 0))
    question = bind + frame(b"D", b"P\0") + frame(b"E", b"\0\0\0\0\0") + frame(b"S")
    tell.send(None)
    last = None
    while True:
        connection.sendall(question)
        found = VALUE.search(until_ready(connection))
        now = time.monotonic_ns()
        value = int(found[1])
        if value != last:
            tell.send((value, now))
            last = value


def until_ready(connection):
    answer = connection.recv(4096)
    while answer and not answer.endswith(READY):
        answer += connection.recv(4096)
    if not answer or answer[:1] == b"E":
        raise SystemExit(f"a reader is answered {answer!r}")
    return answer


def frame(kind, body=b""):
    return kind + struct.pack("!i", len(body) + 4) + body


@contextlib.contextmanager
def recvlogical(folder, url):
    """What it writes, by pgoutput, the same plugin as the sidecar's."""
    program = [f"{folder}/pg_recvlogical", "-d", url.replace("bench@", "postgres@"), "--slot=bench_recvlogical"]
    subprocess.run([*program, "--create-slot", "--plugin=pgoutput"], check=True, timeout=TIMEOUT)
    options = ["-o", "proto_version=1", "-o", "publication_names=bench_ticks", "--fsync-interval=0", "--status-interval=1"]
    process = subprocess.Popen([*program, "--start", "--no-loop", "-f", "-", *options], stdout=subprocess.PIPE, bufsize=0)
    try:
        yield process.stdout
    finally:
        process.terminate()
        process.wait()
        # What comes next is not to be decoded for nobody.
        subprocess.run([*program, "--drop-slot"], check=True, timeout=TIMEOUT)


def receive(tell, stream):
    # A row ends in its value, of 7 digits; then comes the commit, of 26 bytes, each with a line feed behind.
    update = re.compile(rb"\x00\x00\x00\x07(\d{7})\nC.{25}\n", re.DOTALL)
    tell.send(None)
    heard = b""
    while piece := stream.read(65536):
        now = time.monotonic_ns()
        heard += piece
        while found := update.search(heard):
            tell.send((int(found[1]), now))
            heard = heard[found.end():]
