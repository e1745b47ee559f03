"""Many clients that log in by SCRAM and then do nothing: what the process they are connected to needs for each."""

import select

from client import log_in

WARM_UP = 50
"""So many come and go before, so that what is allocated once is not counted."""


def kib_per_client(url, pid, count):
    """Opens so many clients at once; gives the growth of the process's resident memory, per client."""
    for client in [log_in(url) for _ in range(WARM_UP)]:
        client.close()
    before = resident_kib(pid)
    clients = [log_in(url) for _ in range(count)]
    after = resident_kib(pid)
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN)
    # Nobody has anything to say to them; a connection that was closed meanwhile could be read from.
    closed = len(poll.poll(0))
    for client in clients:
        client.close()
    if closed:
        raise SystemExit(f"{closed} of {count} idle clients did not stay connected")
    return (after - before) / count


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
