#!/usr/bin/env bash
# What validating and syncing cost as claims grow, beside a hand-written anti-join of the stored claims with the
# catalog. 2,000 tables of 10 columns; stakeholders with 10 table claims of 10 columns each.
. "$(dirname "$0")/../../scripts/lib.sh"
. "$ROOT/.run/env"
. "$ROOT/scripts/cluster.sh"

RUNS=${QUICK:+5}
RUNS=${RUNS:-15}
SIZES=${QUICK:+10 1000}
SIZES=${SIZES:-10 100 1000}
HERE=$ROOT/bench/contract
DIR=$(mktemp -d "$CLUSTERS/bench.XXXXXX")
trap 'remove_cluster "$DIR"' EXIT
trap 'exit 130' INT TERM

start_cluster "$DIR" <<'CONF'
log_statement = none
log_min_duration_statement = -1
shared_buffers = '256MB'
autovacuum = off
CONF
export PGUSER=postgres PGDATABASE=postgres PGOPTIONS='-c client_min_messages=warning'
sql() { "$PG_BIN/psql" --no-psqlrc -qXAt -v ON_ERROR_STOP=1 "$@"; }

say "2,000 tables of 10 columns"
sql -c 'CREATE EXTENSION integratedb' -f "$HERE/tables.sql"
FIGURES=$DIR/figures
: >"$FIGURES"
for stakeholders in $SIZES; do
    claims=$((stakeholders * 100))
    say "$stakeholders stakeholders, $claims column claims: expanding and granting"
    sql -v stakeholders="$stakeholders" -f "$HERE/claims.sql"
    say "  timing, $RUNS runs each, in turn"
    sql -v runs="$RUNS" -v claims="$claims" -f "$HERE/measure.sql" >>"$FIGURES"
done

# The headline figures are those of the largest size, without its suffix.
largest=${SIZES##* }00
{
    sed -nE "s/^([a-z_]+)_at_$largest /\1 /p" "$FIGURES"
    grep -v "_at_$largest " "$FIGURES" || true
} | sed 's/^/figure /' | tee "$DIR/out"

{
    printf '{"benchmark": "contract", "date": "%s", "machine": "%s, %s cores", "postgres": "%s",\n' "$(date -u +%F)" \
        "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$("$PG_BIN/postgres" --version)"
    printf ' "settings": {"runs": %s, "stakeholders": [%s]},\n "figures": {\n' "$RUNS" "${SIZES// /, }"
    sed -E 's/^figure ([a-z0-9_]+) ([^ ]+) ([^ ]+) \((.*)\)$/  "\1": {"value": \2, "unit": "\3", "spread": "\4"}/' "$DIR/out" | sed '$!s/$/,/'
    printf ' }}\n'
} >"$ROOT/bench/results/contract.json"
say "Written to bench/results/contract.json"
