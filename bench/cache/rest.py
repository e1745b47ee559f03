"""What the sidecar says of its caches over REST."""

import json
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

USER = {"user": {"username": "bench", "password": "only for this benchmark"}}

# No proxy could help with an address of this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Api:
    def __init__(self, options):
        self.base = options.api
        # The database remembers the user from one phase to the next, and whoever comes second has to show a token.
        kept = pathlib.Path(options.dir, "token")
        self.token = kept.read_text(encoding="ascii") if kept.exists() else None
        if self.token is None:
            self.token = self.call("/api/v1/users", USER)["data"]["token"]
            kept.write_text(self.token, encoding="ascii")

    def caching(self, cache):
        """What it holds: `entries`, `bytes`, of which `answer_bytes` are answers, whether it is `serving`, and counts."""
        return self.call(f"/api/v1/caches/{cache}/caching")["data"]

    def until_serving(self, cache):
        """It serves nothing until it follows the origin's log."""
        end = time.monotonic() + 30
        while not (found := self.caching(cache))["serving"]:
            if time.monotonic() > end:
                sys.exit(f"the cache {cache} does not serve: {found['why']}; its reader: {found['reader']}")
            time.sleep(0.05)

    def hits(self, cache, text):
        """So many queries whose template has this text in it have been answered without the origin."""
        return sum(query["cache"]["hits"] for query in self.queries(cache, text))

    def complain(self, cache, text, what):
        told = [{"template": query["template"], **query["cache"]} for query in self.queries(cache, text)]
        sys.exit(f"{what}. The cache says of itself {self.caching(cache)}, and of these queries {told}")

    def queries(self, cache, text):
        words = urllib.parse.urlencode({"text": text, "limit": 1000})
        return self.call(f"/api/v1/caches/{cache}/queries?{words}")["data"]

    def call(self, path, body=None):
        request = urllib.request.Request(self.base + path, None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with OPENER.open(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            sys.exit(f"the sidecar answers {error.code} to {path}: {error.read().decode(errors='replace')[:500]}")
