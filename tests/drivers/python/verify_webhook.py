"""Verifies a delivery with the public library: a JSON object {secret, headers, body} comes in, `verified` or `refused: WHY` goes out."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

given = json.load(sys.stdin)
try:
    told = Webhook(given["secret"]).verify(given["body"], given["headers"])
    print("verified", len((told or json.loads(given["body"]))["data"]["events"]))
except WebhookVerificationError as error:
    print("refused:", error)
