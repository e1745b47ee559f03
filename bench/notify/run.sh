#!/usr/bin/env bash
# How many changes a second come out of a commit at the other end of a socket, a webhook and a Redis stream, beside
# pg_recvlogical of the same table and beside the webhooks' own client that reads nothing from anywhere; how soon; what
# that costs; and how it grows with stakeholders and with a transaction of a million rows. Everything takes turns within
# one run, one receiver at a time, and a ratio is of two measurements of the same round.
#
#   ROUNDS=5 BURST=200000                      how much, a round and the changes of a burst; QUICK=1 for under a minute
#   SECONDS_EACH=10 RATE=1000                  of paced commits, whose latency is measured
#   DELIVERIES=1000000 LARGE=1000000           to many stakeholders at once; the rows of the large transaction
#   PHASES="burst"                             only these, and no results file; of burst, webhook, latency, large, growth
. "$(dirname "$0")/../../scripts/lib.sh"
"$ROOT/scripts/setup.sh" bench-notify
. "$ROOT/.run/env"
. "$ROOT/scripts/cluster.sh"
. "$ROOT/bench/shared/targets.sh"
. "$ROOT/bench/shared/redis.sh"
unset ${!INTEGRATEDB_@}

if [ -n "${QUICK:-}" ]; then
    ROUNDS=${ROUNDS:-1} BURST=${BURST:-20000} SECONDS_EACH=${SECONDS_EACH:-1} DELIVERIES=${DELIVERIES:-20000}
    LARGE=${LARGE:-100000}
fi
ROUNDS=${ROUNDS:-5} BURST=${BURST:-200000} SECONDS_EACH=${SECONDS_EACH:-10} DELIVERIES=${DELIVERIES:-1000000}
LARGE=${LARGE:-1000000} RATE=${RATE:-1000}
OUT=$ROOT/bench/results/notify.json
if [ -n "${PHASES:-}" ]; then OUT=; fi
ALL='burst webhook latency large growth'
PHASES=${PHASES:-$ALL}
for phase in $PHASES; do
    case " $ALL " in *" $phase "*) ;; *) die "there is no phase $phase, only: $ALL" ;; esac
done
HERE=$ROOT/bench/notify
LISTENER=$ROOT/target/release/integratedb-listener

build integratedb-sidecar integratedb-listener

# --- what is started here is stopped here, however this ends ---

DIR=$(mktemp -d "$CLUSTERS/bench.XXXXXX")
STARTED=
SIDECAR=
stop_sidecar() { [ -z "$SIDECAR" ] || stop_one "$SIDECAR"; SIDECAR=; }
stop() {
    trap - EXIT HUP INT TERM
    local pid
    stop_sidecar
    for pid in $STARTED; do stop_one "$pid"; done
    remove_cluster "$DIR"
}
trap stop EXIT
trap 'stop; exit 130' HUP INT TERM

# When a transaction was committed is asked of Postgres.
start_cluster "$DIR" <<'CONF'
log_statement = none
log_min_duration_statement = -1
shared_buffers = '512MB'
max_connections = 200
max_wal_size = '8GB'
max_slot_wal_keep_size = '8GB'
checkpoint_timeout = '1h'
autovacuum = off
track_commit_timestamp = on
CONF
psql_at -U postgres postgres -c 'CREATE DATABASE bench'
psql_at -U postgres bench -c 'CREATE EXTENSION integratedb' -f "$HERE/sql/tables.sql" >/dev/null
start_redis

# Webhooks are signed, with secrets that are kept encrypted, and go to this machine.
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$DIR/key")

start_sidecar() {
    local try
    for try in 1 2 3 4 5; do
        API_PORT=$(free_port)
        cat >"$DIR/sidecar.toml" <<TOML
database_url = "postgres://postgres@127.0.0.1:$PGPORT/bench?sslmode=disable"
listen = "127.0.0.1:$API_PORT"
[notifications]
key_file = "$DIR/key"
allow_networks = ["127.0.0.0/8"]
TOML
        "$BINARY" serve --config "$DIR/sidecar.toml" >"$DIR/sidecar.log" 2>&1 &
        SIDECAR=$!
        if is_ready "$SIDECAR"; then return; fi
        stop_sidecar
    done
    die "the sidecar does not start: $(tail -n 5 "$DIR/sidecar.log")"
}

how_much() {
    printf ' --%s' "rounds $ROUNDS" "burst $BURST" "seconds $SECONDS_EACH" "rate $RATE" "deliveries $DELIVERIES" \
        "large $LARGE"
}

# Each with a sidecar of its own, so that none has the memory of the one before. In this order: the last leaves a hundred
# stakeholders that are told of something.
for phase in $ALL; do
    case " $PHASES " in *" $phase "*) ;; *) continue ;; esac
    stop_sidecar
    start_sidecar
    # shellcheck disable=SC2046 # names and numbers
    python3 -B "$HERE/measure.py" phase "$phase" --dir "$DIR" $(how_much) --bin "$PG_BIN" --listener "$LISTENER" \
        --database "postgres://postgres@127.0.0.1:$PGPORT/bench?sslmode=disable" --api "127.0.0.1:$API_PORT" \
        --sidecar "$SIDECAR" --redis "127.0.0.1:$REDIS_PORT" --webhook "127.0.0.1:$(free_port)" \
        || die "the sidecar says: $(tail -n 5 "$DIR/sidecar.log")"
done
# shellcheck disable=SC2046
python3 -B "$HERE/measure.py" results --dir "$DIR" $(how_much) --postgres "$("$PG_BIN/postgres" --version)" \
    --redis-version "$(redis-server --version | sed 's/ sha=.*//')" ${OUT:+--out "$OUT"}
[ -z "$OUT" ] || say "Written to bench/results/notify.json"
