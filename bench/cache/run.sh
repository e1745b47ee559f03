#!/usr/bin/env bash
# What a hit of the cache costs beside the same query at Postgres, at a program that answers without looking, at
# Pgpool-II's memory cache and at Redis; how that grows with the entries and what an entry takes; how soon a commit at the
# origin is seen, beside pg_recvlogical; and what reads and writes together gain. Everything takes turns within one run,
# and a ratio is of two measurements of the same round.
#
#   ROUNDS=7 SECONDS_EACH=2                      how much; QUICK=1 for under a minute
#   TARGETS="direct responder pgpool redis"      only these, and no results file; of these and cache
#   PHASES="hits"                                only these, and no results file; of hits, growth, invalidation, mixed
. "$(dirname "$0")/../../scripts/lib.sh"
# Debian has Pgpool-II where only root looks for programs.
export PATH=$PATH:/usr/sbin
"$ROOT/scripts/setup.sh" bench-cache
. "$ROOT/.run/env"
. "$ROOT/scripts/cluster.sh"
. "$ROOT/bench/shared/targets.sh"
. "$ROOT/bench/shared/redis.sh"
unset ${!INTEGRATEDB_@}

if [ -n "${QUICK:-}" ]; then
    ROUNDS=${ROUNDS:-1} SECONDS_EACH=${SECONDS_EACH:-1} COMMITS=${COMMITS:-200} SIZES=${SIZES:-1000 10000}
fi
ROUNDS=${ROUNDS:-7} SECONDS_EACH=${SECONDS_EACH:-2} COMMITS=${COMMITS:-500} SIZES=${SIZES:-1000 10000 100000 1000000}
OUT=$ROOT/bench/results/cache.json
if [ -n "${TARGETS:-}${PHASES:-}" ]; then OUT=; fi
TARGETS=${TARGETS:-direct cache responder pgpool redis}
PHASES=${PHASES:-hits growth invalidation mixed}
for target in $TARGETS; do
    case $target in direct | cache | responder | pgpool | redis) ;; *) die "there is no target $target" ;; esac
done
for phase in $PHASES; do
    case $phase in hits | growth | invalidation | mixed) ;; *) die "there is no phase $phase" ;; esac
done
has() { case " $TARGETS " in *" $1 "*) ;; *) return 1 ;; esac }
HERE=$ROOT/bench/cache

if has cache; then build integratedb-sidecar; fi
if has responder; then build integratedb-responder; fi

# --- what is started here is stopped here, however this ends ---

DIR=$(mktemp -d "$CLUSTERS/bench.XXXXXX")
# Pgpool-II wants sockets, whose paths may be no longer than 107 bytes.
SOCKETS=$(mktemp -d /tmp/bench.XXXXXX)
if [ "$(id -u)" = 0 ]; then chown "$RUN_AS" "$SOCKETS"; fi
STARTED=
PROXY=
stop_proxy() { [ -z "$PROXY" ] || stop_one "$PROXY"; PROXY=; }
# Its own: what the shell has is that of the one that changed the account. A zero byte follows it.
pgpool_pid() { tr -d '\0' <"$DIR/pgpool.pid"; }
stop_pgpool() {
    local pid end=$((SECONDS + 10))
    [ -f "$DIR/pgpool.pid" ] || return 0
    pid=$(pgpool_pid)
    # At once, without waiting for clients.
    kill -INT "$pid" 2>/dev/null || true
    while [ -d "/proc/$pid" ] && [ "$SECONDS" -lt "$end" ]; do sleep 0.05; done
}
stop() {
    trap - EXIT HUP INT TERM
    local pid
    for pid in $STARTED; do stop_one "$pid"; done
    stop_proxy
    stop_pgpool
    remove_cluster "$DIR"
    rm -rf "$SOCKETS"
}
trap stop EXIT
trap 'stop; exit 130' HUP INT TERM

start_cluster "$DIR" <<'CONF'
log_statement = none
log_min_duration_statement = -1
shared_buffers = '512MB'
max_connections = 200
autovacuum = off
CONF
# Who logs in how is not what is measured, and Pgpool-II would need passwords in a file.
echo 'host bench bench 127.0.0.1/32 trust' | as_runner tee "$DIR/hba" >/dev/null
as_runner sh -c "cat '$DIR/data/pg_hba.conf' >>'$DIR/hba' && cp '$DIR/hba' '$DIR/data/pg_hba.conf'"

url() { # PORT [CACHE]
    printf 'postgres://bench@127.0.0.1:%s/bench?sslmode=disable%s' "$1" "${2:+&application_name=$2}"
}

say "pgbench's tables, scale 10"
psql_at -U postgres postgres -c 'SELECT pg_reload_conf()' -c 'CREATE ROLE bench LOGIN' -c 'CREATE DATABASE bench OWNER bench' >/dev/null
if has cache; then psql_at -U postgres bench -c 'CREATE EXTENSION integratedb'; fi
"$PG_BIN/pgbench" -i -q -s 10 -F 90 "$(url "$PGPORT")" >/dev/null 2>&1
psql_at -f "$HERE/sql/tables.sql" "$(url "$PGPORT")"
psql_at -U postgres bench -c 'CREATE PUBLICATION bench_ticks FOR TABLE ticks' -c 'VACUUM ANALYZE'

start_responder() {
    local try pid
    for try in 1 2 3 4 5; do
        RESPONDER_PORT=$(free_port)
        "$ROOT/target/release/integratedb-responder" "127.0.0.1:$RESPONDER_PORT" 2>"$DIR/responder.log" &
        pid=$!
        if comes_up "$pid" "$(url "$RESPONDER_PORT")"; then
            STARTED="$STARTED $pid" RESPONDER=$pid
            return
        fi
        stop_one "$pid"
    done
    die "the responder does not start: $(tail -n 5 "$DIR/responder.log")"
}

# As its manual says for a cache in shared memory, without what it does beside: no standbys to watch or to read from.
start_pgpool() {
    local try
    for try in 1 2 3 4 5; do
        PGPOOL_PORT=$(free_port)
        as_runner mkdir -p "$DIR/oids"
        as_runner tee "$DIR/pgpool.conf" >/dev/null <<CONF
backend_clustering_mode = 'raw'
listen_addresses = '127.0.0.1'
port = $PGPOOL_PORT
socket_dir = '$SOCKETS'
pcp_listen_addresses = ''
pcp_port = $(free_port)
pcp_socket_dir = '$SOCKETS'
wd_ipc_socket_dir = '$SOCKETS'
backend_hostname0 = '127.0.0.1'
backend_port0 = $PGPORT
backend_weight0 = 1
backend_flag0 = 'DISALLOW_TO_FAILOVER'
enable_pool_hba = off
pool_passwd = ''
num_init_children = 32
max_pool = 1
connection_cache = on
load_balance_mode = off
sr_check_period = 0
health_check_period = 0
use_watchdog = off
check_temp_table = none
check_unlogged_table = off
pid_file_name = '$DIR/pgpool.pid'
logdir = '$DIR'
memory_cache_enabled = on
memqcache_method = 'shmem'
memqcache_total_size = 256MB
memqcache_max_num_cache = 1000000
memqcache_expire = 0
memqcache_auto_cache_invalidation = on
memqcache_oiddir = '$DIR/oids'
CONF
        rm -f "$DIR/pgpool.pid"
        as_runner pgpool -n -f "$DIR/pgpool.conf" >"$DIR/pgpool.log" 2>&1 &
        # It takes a moment until the file is there.
        if comes_up $! "$(url "$PGPOOL_PORT")"; then
            PGPOOL=$(pgpool_pid)
            return
        fi
        stop_pgpool
    done
    die "Pgpool-II does not start: $(tail -n 5 "$DIR/pgpool.log")"
}

# A cache for each name, with so much memory.
start_proxy() { # BYTES NAME…
    local try port bytes=$1 name
    shift
    for try in 1 2 3 4 5; do
        port=$(free_port) API_PORT=$(free_port)
        {
            cat <<TOML
database_url = "postgres://postgres@127.0.0.1:$PGPORT/bench?sslmode=disable"
listen = "127.0.0.1:$API_PORT"
[proxy]
listen = "127.0.0.1:$port"
default_cache = "$1"
workers = 1
TOML
            for name; do
                cat <<TOML
[caches.$name]
origin = "postgres://127.0.0.1:$PGPORT?sslmode=disable"
[caches.$name.caching]
url = "postgres://postgres@127.0.0.1:$PGPORT/bench?sslmode=disable"
consistency = "read_your_writes"
max_bytes = $bytes
TOML
            done
        } >"$DIR/proxy.toml"
        "$BINARY" serve --config "$DIR/proxy.toml" >"$DIR/proxy.log" 2>&1 &
        PROXY=$!
        if comes_up "$PROXY" "$(url "$port" "$1")" && is_ready "$PROXY"; then
            PROXY_PORT=$port
            return
        fi
        stop_proxy
    done
    die "the proxy does not start: $(tail -n 5 "$DIR/proxy.log")"
}

# A name, the process that stands between (0 for none), the URL.
line() { printf '%s\t%s\t%s\n' "$@"; }
measure() { # PHASE
    python3 -B "$HERE/measure.py" phase "$1" --targets "$DIR/targets" --bin "$PG_BIN" --rounds "$ROUNDS" \
        --seconds "$SECONDS_EACH" --commits "$COMMITS" --api "http://127.0.0.1:${API_PORT:-0}" --dir "$DIR"
}

# Each with a proxy of its own that has only what the phase needs: every cache reads the origin's log.
for phase in $PHASES; do
    stop_proxy
    case $phase in
        hits)
            if has responder; then start_responder; fi
            if has pgpool; then start_pgpool; fi
            if has redis; then start_redis; fi
            if has cache; then start_proxy $((256 << 20)) bench; fi
            for target in $TARGETS; do
                case $target in
                    direct) line direct 0 "$(url "$PGPORT")" ;;
                    cache) line cache "$PROXY" "$(url "$PROXY_PORT" bench)" ;;
                    responder) line responder "$RESPONDER" "$(url "$RESPONDER_PORT")" ;;
                    pgpool) line pgpool "$PGPOOL" "$(url "$PGPOOL_PORT")" ;;
                    redis) line redis "$REDIS" "redis://127.0.0.1:$REDIS_PORT" ;;
                esac
            done >"$DIR/targets"
            measure hits
            # Whoever is done with leaves the machine to the others.
            for pid in $STARTED; do stop_one "$pid"; done
            STARTED=
            stop_pgpool ;;
        growth)
            has cache || continue
            # A million entries have to stay.
            names=$(for size in $SIZES; do echo "keys_$size"; done)
            # shellcheck disable=SC2086 # one word a cache
            start_proxy $((2 << 30)) $names
            for name in $names; do line "$name" "$PROXY" "$(url "$PROXY_PORT" "$name")"; done >"$DIR/targets"
            measure growth ;;
        *)
            has cache && has direct || continue
            start_proxy $((256 << 20)) bench
            { line direct 0 "$(url "$PGPORT")"; line cache "$PROXY" "$(url "$PROXY_PORT" bench)"; } >"$DIR/targets"
            measure "$phase" ;;
    esac
done
python3 -B "$HERE/measure.py" results --dir "$DIR" --rounds "$ROUNDS" --seconds "$SECONDS_EACH" --commits "$COMMITS" \
    --postgres "$("$PG_BIN/postgres" --version)" --pgpool "$(pgpool --version 2>&1 | sed -n 1p)" \
    --redis "$(redis-server --version | sed 's/ sha=.*//')" ${OUT:+--out "$OUT"}
[ -z "$OUT" ] || say "Written to bench/results/cache.json"
