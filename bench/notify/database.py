"""What is committed, and what pg_recvlogical tells of it."""

import collections
import contextlib
import re
import subprocess
import sys
import time

PATIENCE = 30
"""Seconds in which the database and the sidecar get into a state that they were asked for."""

SLOT = "bench_recvlogical"

Written = collections.namedtuple("Written", "rows sum first_us last_us")
"""What a table has: its rows, the sum of their ids, and when the first and last of its transactions was committed."""


class Database:
    def __init__(self, options):
        self.bin, self.url = options.bin, options.database

    def ask(self, sql):
        """The answer as psql writes it; also of what may not be in a transaction."""
        done = subprocess.run([f"{self.bin}/psql", "--no-psqlrc", "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", sql, self.url],
                              capture_output=True, text=True, timeout=600)
        if done.returncode:
            sys.exit(f"{sql}: {done.stderr.strip()}")
        return done.stdout.strip()

    def empty(self, table):
        """So that every measurement begins with the same; nothing is left for the disk to do meanwhile."""
        self.ask(f"TRUNCATE {table}")
        self.ask("CHECKPOINT")

    def burst(self, table, rows, each):
        """Commits so many rows as fast as it goes, `each` in a transaction."""
        self.ask(f"CALL burst('{table}', {rows}, {each})")

    def written(self, table):
        return Written(*map(int, self.ask(f"SELECT * FROM written('{table}')").split("|")))

    def pace(self, script, rate, count):
        """Commits at this rate; gives what it was in the end."""
        clients = 4
        done = subprocess.run([f"{self.bin}/pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-R", str(rate),
                               "-t", str(count // clients), "-f", script, self.url],
                              capture_output=True, text=True, timeout=600)
        found = re.search(r"tps = ([0-9.]+) \(without", done.stdout)
        if done.returncode or not found:
            sys.exit(f"pgbench failed: {done.stdout[-500:]} {done.stderr.strip()[-500:]}")
        return float(found[1])

    def until(self, wanted, sql):
        """Waits until the answer matches a pattern."""
        end = time.monotonic() + PATIENCE
        while not re.fullmatch(wanted, found := self.ask(sql)):
            if time.monotonic() > end:
                sys.exit(f"{sql}: it is {found} and not {wanted}")
            time.sleep(0.05)

    @contextlib.contextmanager
    def recvlogical(self):
        """What it writes, of the sidecar's publication, by the sidecar's plugin."""
        program = [f"{self.bin}/pg_recvlogical", "-d", self.url, f"--slot={SLOT}"]
        subprocess.run([*program, "--create-slot", "--plugin=pgoutput"], check=True, timeout=PATIENCE)
        options = ["-o", "proto_version=1", "-o", "publication_names=integratedb", "--fsync-interval=0",
                   "--status-interval=1"]
        # The pipe holds much, so that the writer hardly ever waits.
        process = subprocess.Popen([*program, "--start", "--no-loop", "-f", "-", *options], stdout=subprocess.PIPE,
                                   bufsize=0, pipesize=1 << 20)
        try:
            yield process.stdout
        finally:
            process.stdout.close()
            process.terminate()
            process.wait()
            # What comes next is not to be decoded for nobody.
            subprocess.run([*program, "--drop-slot"], check=True, timeout=PATIENCE)
