"""Just enough of a Postgres client to time and count by; logs in by SCRAM, or where it is trusted."""

import base64
import functools
import hashlib
import hmac
import os
import socket
import struct
import urllib.parse

TIMEOUT = 20
"""Seconds that one answer may take."""


def log_in(url):
    """A connection that is ready for a query."""
    parts = urllib.parse.urlsplit(url)
    words = {"user": parts.username, "database": parts.path.lstrip("/")}
    words.update({name: value for name, value in urllib.parse.parse_qsl(parts.query) if name != "sslmode"})
    client = socket.create_connection((parts.hostname, parts.port), TIMEOUT)
    body = struct.pack("!i", 196608) + b"".join(part.encode() + b"\0" for pair in words.items() for part in pair) + b"\0"
    client.sendall(struct.pack("!i", len(body) + 4) + body)
    with client.makefile("rb") as answers:
        while True:
            kind, body = message(answers)
            if kind == b"R":
                authenticate(client, answers, struct.unpack("!i", body[:4])[0], urllib.parse.unquote(parts.password or ""))
            elif kind == b"E":
                raise SystemExit(f"a client is refused: {body!r}")
            elif kind == b"Z":
                return client


def message(answers):
    head = answers.read(5)
    if len(head) < 5:
        raise SystemExit("a client lost its connection")
    return head[:1], answers.read(struct.unpack("!i", head[1:])[0] - 4)


def authenticate(client, answers, request, password):
    if request == 0:
        return
    if request != 10:
        raise SystemExit(f"a client can only log in by SCRAM, but is asked for {request}")
    nonce = base64.b64encode(os.urandom(18)).decode()
    first = f"n=,r={nonce}"
    initial = f"n,,{first}".encode()
    send(client, b"SCRAM-SHA-256\0" + struct.pack("!i", len(initial)) + initial)
    challenge = expect(answers, 11)
    asked = dict(pair.split("=", 1) for pair in challenge.split(","))
    salted = salted_password(password, asked["s"], int(asked["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = f"c=biws,r={asked['r']}"
    signed = f"{first},{challenge},{without_proof}".encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    send(client, f"{without_proof},p={proof}".encode())
    expect(answers, 12)


@functools.lru_cache
def salted_password(password, salt, iterations):
    """The slow part, which is the same for every client of one role."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), iterations)


def send(client, body):
    client.sendall(b"p" + struct.pack("!i", len(body) + 4) + body)


def expect(answers, request):
    kind, body = message(answers)
    if kind != b"R" or struct.unpack("!i", body[:4])[0] != request:
        raise SystemExit(f"a client can't log in: {body!r}")
    return body[4:].decode()
