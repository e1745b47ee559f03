# Shared by the scripts beside it; sourced, never run.
# Sets ROOT, and defines how commands run as somebody who is not root, because Postgres refuses to be.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CARGO_PGRX_VERSION=0.18.1

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The account that runs Postgres: ourselves, unless we are root.
if [ "$(id -u)" = 0 ]; then
    if id -u postgres >/dev/null 2>&1; then RUN_AS=postgres; else RUN_AS=nobody; fi
else
    RUN_AS=$(id -un)
fi

as_runner() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$(id -u "$RUN_AS")" --regid="$(id -g "$RUN_AS")" --clear-groups \
            env HOME=/nonexistent "$@"
    else
        "$@"
    fi
}

# Where prefixes and clusters live: .run in the checkout, or, where the account that runs Postgres can't
# reach the checkout (a root-only folder above it), a folder under /var/tmp that .run then points to.
make_run_dir() {
    if [ -d "$ROOT/.run" ]; then return; fi
    if as_runner test -x "$ROOT" 2>/dev/null; then
        mkdir "$ROOT/.run"
    else
        local elsewhere
        elsewhere=/var/tmp/integratedb-$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)
        mkdir -p "$elsewhere"
        ln -sfn "$elsewhere" "$ROOT/.run"
        say "The account $RUN_AS can't reach $ROOT, so clusters live in $elsewhere (see .run)."
    fi
    chmod 755 "$ROOT/.run/."
}
