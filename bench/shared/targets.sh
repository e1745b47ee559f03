# What benchmarks of things that stand before Postgres share; sourced after cluster.sh.

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
