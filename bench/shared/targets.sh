# What benchmarks of the sidecar and of what it is measured beside share; sourced after cluster.sh.

export PGCONNECT_TIMEOUT=5 PYTHONPATH=$ROOT/bench/shared
psql_at() { "$PG_BIN/psql" --no-psqlrc -qXAt -v ON_ERROR_STOP=1 "$@"; }

answers() { psql_at -c 'SELECT 1' "$1" >/dev/null 2>&1; }
# Whether it answers at all URLs before the deadline, while it lives.
comes_up() { # PID URL…
    local pid=$1 end=$((SECONDS + 20)) one
    shift
    for one; do
        until answers "$one"; do
            [ -d "/proc/$pid" ] && [ "$SECONDS" -lt "$end" ] || return 1
            sleep 0.05
        done
    done
}

# Whether the sidecar at API_PORT has its database as it wants it; clients of its proxy are served before.
is_ready() { # PID
    local end=$((SECONDS + 20))
    until curl -q --noproxy '*' -sf "http://127.0.0.1:$API_PORT/health/ready" >/dev/null; do
        [ -d "/proc/$1" ] && [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

# Builds what is measured, optimised, and sets BINARY to the sidecar. PROGRAM is a sidecar that is there already.
build() { # PACKAGE…
    local package
    BINARY=${PROGRAM:-$ROOT/target/release/integratedb}
    for package; do
        [ "$package" != integratedb-sidecar ] || [ -z "${PROGRAM:-}" ] || continue
        say "Building $package, optimised"
        (cd "$ROOT" && cargo build --quiet --release -p "$package")
    done
}

stop_one() { { kill "$1" && wait "$1"; } 2>/dev/null || true; }
