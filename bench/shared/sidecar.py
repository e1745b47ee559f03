"""The sidecar's REST API, as a user that the benchmark makes."""

import json
import pathlib
import sys
import urllib.error
import urllib.request

USER = {"user": {"username": "bench", "password": "only for this benchmark"}}

# No proxy could help with an address of this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Sidecar:
    def __init__(self, base, folder):
        self.base = base
        # The database remembers the user from one phase to the next, and whoever comes second has to show a token.
        kept = pathlib.Path(folder, "token")
        self.token = kept.read_text(encoding="ascii") if kept.exists() else None
        if self.token is None:
            self.token = self.call("/api/v1/users", USER)["data"]["token"]
            kept.write_text(self.token, encoding="ascii")

    def call(self, path, body=None, method=None):
        """What is answered; `None` where that is nothing."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with OPENER.open(request, timeout=20) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            sys.exit(f"the sidecar answers {error.code} to {path}: {error.read().decode(errors='replace')[:500]}")
