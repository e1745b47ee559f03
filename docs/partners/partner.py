#!/usr/bin/env python3
"""A partner's application, as small as it gets: it asks a user of IntegrateDB for access to a workspace, makes a cache
there in front of the database that the user has with the partner, and queries through it.

    pip install Authlib requests 'psycopg[binary]'

    ISSUER=https://integratedb.example CLIENT_ID=... CLIENT_SECRET=... \\
    REDIRECT_URI=http://127.0.0.1:8080/callback ORIGIN=postgres://shop:secret@db.partner.example/shop \\
        python3 partner.py

The README beside it tells what happens at each step.
"""

import http.server
import os
import secrets
import sys
import urllib.parse

import psycopg
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

ISSUER = os.environ["ISSUER"]
REDIRECT_URI = os.environ["REDIRECT_URI"]
# Where the user's database is. The partner knows it, with the credentials; IntegrateDB gets neither user nor password.
ORIGIN = urllib.parse.urlsplit(os.environ["ORIGIN"])
SCOPE = "caches:read caches:write"


def tell(what, value):
    print(f"{what}: {value}", flush=True)


def wait_for_the_browser():
    """Answers the one request that the browser is sent back with, and gives its URL."""
    seen = []

    class Callback(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            is_it = urllib.parse.urlsplit(self.path).path == urllib.parse.urlsplit(REDIRECT_URI).path
            self.send_response(200 if is_it else 404)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            if is_it:
                self.wfile.write(b"You can close this window.\n")
                seen.append(urllib.parse.urljoin(REDIRECT_URI, self.path))

        def log_message(self, *_):
            """The URL has the code in it, which is nothing for a log."""

    address = urllib.parse.urlsplit(REDIRECT_URI)
    with http.server.HTTPServer((address.hostname, address.port), Callback) as server:
        yield
        while not seen:
            server.handle_request()
    yield seen[0]


def authorize(session, metadata):
    """Sends the user to IntegrateDB, and trades the code that comes back for tokens."""
    verifier = secrets.token_urlsafe(48)
    url, state = session.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)
    callback = wait_for_the_browser()
    # It listens before anybody can come.
    next(callback)
    tell("Please open", url)
    answer = next(callback)
    parameters = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(answer).query))
    # Another server's answer is not for this one's token endpoint (RFC 9207).
    if parameters.get("iss") != metadata["issuer"]:
        sys.exit("this answer is from somebody else")
    if "error" in parameters:
        sys.exit(f"no access: {parameters['error']}")
    # Checks the state too.
    session.fetch_token(metadata["token_endpoint"], authorization_response=answer, state=state, code_verifier=verifier)
    tell("Access to", session.token["scope"])


def create_cache(session):
    """Makes a cache of the user's database, in the workspace that the user has picked."""
    cache = {
        "name": "shop, by partner.py",
        "type": "postgres",
        "hostname": ORIGIN.hostname,
        "port": ORIGIN.port or 5432,
    }
    # If the answer is lost, the same request with the same key makes no second cache.
    headers = {"Idempotency-Key": secrets.token_urlsafe(24)}
    answer = session.post(f"{ISSUER}/api/v1/caches", json={"cache": cache}, headers=headers)
    if answer.status_code != 201:
        sys.exit(f"no cache: {answer.status_code} {answer.text}")
    made = answer.json()["data"]
    tell("Cache", made["id"])
    tell("Connection string", made["connection_string"])
    return made


def query(cache):
    """Queries through the cache, with the user's own credentials for the database."""
    url = cache["connection_string"]
    url = url.replace("[USERNAME]", ORIGIN.username).replace("[PASSWORD]", ORIGIN.password or "")
    url = url.replace("[DATABASE]", ORIGIN.path.lstrip("/"))
    with psycopg.connect(url) as connection:
        tell("Answer through the cache", connection.execute("SELECT count(*) FROM products").fetchone()[0])


def state_of(session, cache):
    return session.get(f"{ISSUER}/api/v1/caches/{cache['id']}").status_code


def main():
    session = OAuth2Session(
        os.environ["CLIENT_ID"],
        os.environ["CLIENT_SECRET"],
        scope=SCOPE,
        redirect_uri=REDIRECT_URI,
        code_challenge_method="S256",
    )
    metadata = session.get(f"{ISSUER}/.well-known/oauth-authorization-server", withhold_token=True).json()
    if metadata["issuer"] != ISSUER:
        sys.exit("this metadata is somebody else's")
    authorize(session, metadata)
    cache = create_cache(session)
    query(cache)

    # Before a token runs out, or after. Each refresh token works once: keep what comes with the answer.
    former = session.token["access_token"]
    session.refresh_token(metadata["token_endpoint"])
    tell("New token", session.token["access_token"] != former)
    tell("With it", state_of(session, cache))

    tell("Disconnect", "press Enter, or first take the consent back at IntegrateDB")
    sys.stdin.readline()
    tell("Before disconnecting", state_of(session, cache))
    refresh_token = session.token["refresh_token"]
    answer = session.revoke_token(metadata["revocation_endpoint"], token=refresh_token, token_type_hint="refresh_token")
    tell("Disconnecting", answer.status_code)
    tell("After disconnecting", state_of(session, cache))
    try:
        session.refresh_token(metadata["token_endpoint"], refresh_token=refresh_token)
    except OAuthError as error:
        tell("Refreshing", error.error)


main()
