# Shared by the scripts beside it; sourced, never run.
# Sets ROOT, and defines how commands run as somebody who is not root, because Postgres refuses to be.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CARGO_PGRX_VERSION=0.18.1

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Sets RUN_AS to the account that runs Postgres: ourselves, unless we are root. To be asked only once Postgres is
# installed, which makes an account: what `nobody` made before, `postgres` could not read after.
choose_runner() {
    if [ "$(id -u)" != 0 ]; then
        RUN_AS=$(id -un)
    elif id -u postgres >/dev/null 2>&1; then
        RUN_AS=postgres
    else
        RUN_AS=nobody
    fi
}

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
# A .run that is there is never removed: somebody's cluster may be running in it.
make_run_dir() {
    local link=$ROOT/.run elsewhere
    # Only a link may go, when /var/tmp was cleaned behind it.
    if [ -L "$link" ] && [ ! -d "$link" ]; then rm "$link"; fi
    if [ ! -d "$link" ]; then
        if as_runner test -x "$ROOT"; then
            mkdir "$link"
        else
            elsewhere=/var/tmp/integratedb-$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)
            mkdir -p "$elsewhere"
            # Everybody may write to /var/tmp, so the folder may be somebody else's.
            { [ -O "$elsewhere" ] && [ ! -L "$elsewhere" ]; } || die "please remove $elsewhere: it is not ours"
            ln -s "$elsewhere" "$link"
            say "The account $RUN_AS can't reach $ROOT, so clusters live in $elsewhere (see .run)."
        fi
    fi
    RUN=$(cd -P "$link" && pwd)
    chmod 755 "$RUN"
    as_runner test -x "$RUN" \
        || die "the account $RUN_AS can't reach $RUN: stop what runs there, remove $link and try again"
}
