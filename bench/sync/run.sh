#!/usr/bin/env bash
# How many models a second come from a source to a target, both of which take a given time to answer: beside what so many
# workers could do if nothing but these answers took time, beside Zync's design with as many workers, with one sidecar and
# with two; and how often a model is pushed that is notified of many times. Everything takes turns within one run, and a
# ratio is of two measurements of the same round.
#
#   ROUNDS=5 MODELS=5000                       how much; QUICK=1 for under a minute
#   SECONDS_EACH=5                             fewer models where so many workers could not do them in this time
#   WORKERS=16 GROWTH="1 4 16 64"              the workers of the figures without a number, and the others
#   LATENCY_MICROS=5000                        of source and target each
#   BURST=1000 TIMES=10                        models that are notified of again and again, and how often
#   PHASES="converge"                          only these, and no results file; of converge and burst
. "$(dirname "$0")/../../scripts/lib.sh"
"$ROOT/scripts/setup.sh"
. "$ROOT/.run/env"
. "$ROOT/scripts/cluster.sh"
. "$ROOT/bench/shared/targets.sh"
unset ${!INTEGRATEDB_@}

if [ -n "${QUICK:-}" ]; then
    ROUNDS=${ROUNDS:-1} MODELS=${MODELS:-2000} SECONDS_EACH=${SECONDS_EACH:-1} BURST=${BURST:-200}
fi
ROUNDS=${ROUNDS:-5} MODELS=${MODELS:-5000} SECONDS_EACH=${SECONDS_EACH:-5} BURST=${BURST:-1000} TIMES=${TIMES:-10}
WORKERS=${WORKERS:-16} GROWTH=${GROWTH:-1 4 16 64} LATENCY_MICROS=${LATENCY_MICROS:-5000}
OUT=$ROOT/bench/results/sync.json
if [ -n "${PHASES:-}" ]; then OUT=; fi
ALL='converge burst'
PHASES=${PHASES:-$ALL}
for phase in $PHASES; do
    case " $ALL " in *" $phase "*) ;; *) die "there is no phase $phase, only: $ALL" ;; esac
done
HERE=$ROOT/bench/sync
PEERS=$ROOT/target/release/integratedb-sync-peers

build integratedb-sidecar integratedb-sync-peers

# --- what is started here is stopped here, however this ends ---

DIR=$(mktemp -d "$CLUSTERS/bench.XXXXXX")
SIDECAR=
stop() {
    trap - EXIT HUP INT TERM
    [ -z "$SIDECAR" ] || stop_one "$SIDECAR"
    remove_cluster "$DIR"
}
trap stop EXIT
trap 'stop; exit 130' HUP INT TERM

start_cluster "$DIR" <<'CONF'
log_statement = none
log_min_duration_statement = -1
shared_buffers = '512MB'
max_connections = 200
max_wal_size = '8GB'
checkpoint_timeout = '1h'
CONF
psql_at -U postgres postgres -c 'CREATE DATABASE bench'
psql_at -U postgres bench -c 'CREATE EXTENSION integratedb' >/dev/null

# What is fetched is kept encrypted, as it is elsewhere.
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$DIR/key")
SYNC_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export SYNC_TOKEN

# This one only takes notifications. Those that work are started for each measurement.
for try in 1 2 3 4 5; do
    API_PORT=$(free_port)
    cat >"$DIR/sidecar.toml" <<TOML
database_url = "postgres://postgres@127.0.0.1:$PGPORT/bench?sslmode=disable"
listen = "127.0.0.1:$API_PORT"
[sync]
enabled = false
token = "$SYNC_TOKEN"
key_file = "$DIR/key"
allow_networks = ["127.0.0.0/8"]
# As many pushes at once as there are workers.
workers_per_integration = 1000
TOML
    "$BINARY" serve --config "$DIR/sidecar.toml" >"$DIR/sidecar.log" 2>&1 &
    SIDECAR=$!
    if is_ready "$SIDECAR"; then break; fi
    stop_one "$SIDECAR"
    SIDECAR=
done
[ -n "$SIDECAR" ] || die "the sidecar does not start: $(tail -n 5 "$DIR/sidecar.log")"

how_much() {
    printf ' --%s' "rounds $ROUNDS" "models $MODELS" "seconds $SECONDS_EACH" "workers $WORKERS" "growth $GROWTH" \
        "latency $LATENCY_MICROS" "burst $BURST" "times $TIMES"
}

SOURCE=127.0.0.1:$(free_port)
TARGET=127.0.0.1:$(free_port)
for phase in $ALL; do
    case " $PHASES " in *" $phase "*) ;; *) continue ;; esac
    # shellcheck disable=SC2046 # names and numbers
    python3 -B "$HERE/measure.py" phase "$phase" --dir "$DIR" $(how_much) --bin "$PG_BIN" --binary "$BINARY" --peers "$PEERS" \
        --database "postgres://postgres@127.0.0.1:$PGPORT/bench?sslmode=disable" --api "127.0.0.1:$API_PORT" \
        --source "$SOURCE" --target "$TARGET" \
        || die "the sidecars say: $(tail -qn 5 "$DIR"/*.log)"
done
# shellcheck disable=SC2046
python3 -B "$HERE/measure.py" results --dir "$DIR" $(how_much) --postgres "$("$PG_BIN/postgres" --version)" ${OUT:+--out "$OUT"}
[ -z "$OUT" ] || say "Written to bench/results/sync.json"
