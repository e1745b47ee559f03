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

# From the root folder, because Postgres wants to come back to where it was started and may not be allowed to.
as_runner() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$(id -u "$RUN_AS")" --regid="$(id -g "$RUN_AS")" --clear-groups \
            env -C / HOME=/nonexistent "$@"
    else
        "$@"
    fi
}

# Where prefixes and clusters live: .run in the checkout, or, where the account that runs Postgres can't
# reach the checkout (a root-only folder above it), a folder under /var/tmp that .run then points to.
# Sets RUN to that folder itself: through the link it would be out of reach again.
make_run_dir() {
    local link=$ROOT/.run
    if ! { [ -d "$link" ] && RUN=$(cd -P "$link" && pwd) && as_runner test -x "$RUN"; } 2>/dev/null; then
        rm -rf "$link"
        if as_runner test -x "$ROOT" 2>/dev/null; then
            mkdir "$link"
        else
            local elsewhere
            elsewhere=/var/tmp/integratedb-$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)
            mkdir -p "$elsewhere"
            # Everybody may write to /var/tmp, so the folder may be somebody else's.
            { [ -O "$elsewhere" ] && [ ! -L "$elsewhere" ]; } || die "please remove $elsewhere: it is not ours"
            ln -s "$elsewhere" "$link"
            say "The account $RUN_AS can't reach $ROOT, so clusters live in $elsewhere (see .run)."
        fi
        RUN=$(cd -P "$link" && pwd)
    fi
    chmod 755 "$RUN"
}
