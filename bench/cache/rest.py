"""What the sidecar says of its caches over REST."""

import sys
import time
import urllib.parse

from sidecar import Sidecar


class Api(Sidecar):
    def __init__(self, options):
        super().__init__(options.api, options.dir)

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
