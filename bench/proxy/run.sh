#!/usr/bin/env bash
# What a connection through the proxy costs beside PgBouncer and beside none: pgbench -S by the simple protocol and
# with prepared statements, at 1, 8 and 64 clients; the CPU time of whatever stands between; memory of idle clients.
# Everything takes turns within one run, and a ratio is of two measurements of the same round.
#
#   ROUNDS=5 SECONDS_EACH=5 IDLE=5000    how much; QUICK=1 for under a minute
#   TARGETS="direct pgbouncer_session"   only these, and no results file; of direct, pgbouncer_session,
#                                        pgbouncer_transaction, proxy_pass, proxy_session, proxy_transaction
. "$(dirname "$0")/../../scripts/lib.sh"
# Debian has PgBouncer where only root looks for programs.
export PATH=$PATH:/usr/sbin
"$ROOT/scripts/setup.sh" bench-proxy
. "$ROOT/.run/env"
. "$ROOT/scripts/cluster.sh"
. "$ROOT/bench/shared/targets.sh"
unset ${!INTEGRATEDB_@}

if [ -n "${QUICK:-}" ]; then ROUNDS=${ROUNDS:-1} SECONDS_EACH=${SECONDS_EACH:-1} IDLE=${IDLE:-1000}; fi
ROUNDS=${ROUNDS:-5} SECONDS_EACH=${SECONDS_EACH:-5} IDLE=${IDLE:-5000}
ALL="direct pgbouncer_session pgbouncer_transaction proxy_pass proxy_session proxy_transaction"
OUT=$ROOT/bench/results/proxy.json
if [ -n "${TARGETS:-}" ]; then OUT=; fi
TARGETS=${TARGETS:-$ALL}
for target in $TARGETS; do
    case " $ALL " in *" $target "*) ;; *) die "there is no target $target, only: $ALL" ;; esac
done
HERE=$ROOT/bench/proxy

# A connection is an open file, on both sides.
ulimit -S -n "$(ulimit -H -n)"
files=$(ulimit -n)
if [ "$files" != unlimited ] && [ "$IDLE" -gt $((files - 1000)) ]; then
    IDLE=$((files - 1000))
    say "Only $files files may be open, so there will be $IDLE idle clients"
fi

case " $TARGETS" in *" proxy_"*) build integratedb-sidecar ;; esac

# --- what is started here is stopped here, however this ends ---

DIR=$(mktemp -d "$CLUSTERS/bench.XXXXXX")
PROXY=
BOUNCER=
# By its own pid: what the shell has is the one that changed the account.
stop_bouncer() { [ ! -f "$DIR/pgbouncer.pid" ] || kill "$(cat "$DIR/pgbouncer.pid")" 2>/dev/null || true; }
stop() {
    trap - EXIT HUP INT TERM
    [ -z "$PROXY" ] || { kill "$PROXY"; wait "$PROXY"; } 2>/dev/null || true
    stop_bouncer
    remove_cluster "$DIR"
}
trap stop EXIT
trap 'stop; exit 130' HUP INT TERM

start_cluster "$DIR" <<'CONF'
log_statement = none
log_min_duration_statement = -1
shared_buffers = '512MB'
# As many as all pools together may hold.
max_connections = 400
autovacuum = off
CONF

PASSWORD=bench
url() { # PORT DATABASE [CACHE]
    printf 'postgres://bench:%s@127.0.0.1:%s/%s?sslmode=disable%s' "$PASSWORD" "$1" "$2" "${3:+&application_name=$3}"
}

say "pgbench's tables, scale 10"
psql_at -U postgres postgres -c "CREATE ROLE bench LOGIN PASSWORD '$PASSWORD'" \
    -c "CREATE DATABASE bench OWNER bench" -c "CREATE EXTENSION integratedb"
"$PG_BIN/pgbench" -i -q -s 10 "$(url "$PGPORT" bench)" >/dev/null 2>&1

start_bouncer() {
    local try port
    # The verifier and not the password: as PgBouncer is used, and the salt is the same each time.
    psql_at -U postgres postgres -c "SELECT format('\"%s\" \"%s\"', rolname, rolpassword) FROM pg_authid WHERE rolname = 'bench'" \
        | as_runner tee "$DIR/users" >/dev/null
    for try in 1 2 3 4 5; do
        port=$(free_port)
        as_runner tee "$DIR/pgbouncer.ini" >/dev/null <<INI
[databases]
session = host=127.0.0.1 port=$PGPORT dbname=bench pool_mode=session pool_size=80
transaction = host=127.0.0.1 port=$PGPORT dbname=bench pool_mode=transaction pool_size=20
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $DIR/users
max_client_conn = $((IDLE + 500))
log_connections = 0
log_disconnections = 0
logfile = $DIR/pgbouncer.log
pidfile = $DIR/pgbouncer.pid
INI
        as_runner pgbouncer -q "$DIR/pgbouncer.ini" 2>/dev/null &
        BOUNCER=$!
        if comes_up "$BOUNCER" "$(url "$port" session)" "$(url "$port" transaction)"; then
            BOUNCER=$(cat "$DIR/pgbouncer.pid")
            BOUNCER_PORT=$port
            return
        fi
        stop_bouncer
    done
    die "PgBouncer does not start: $(tail -n 5 "$DIR/pgbouncer.log")"
}

start_proxy() {
    local try port
    for try in 1 2 3 4 5; do
        port=$(free_port)
        cat >"$DIR/proxy.toml" <<TOML
database_url = "postgres://postgres@127.0.0.1:$PGPORT/postgres?sslmode=disable"
listen = "127.0.0.1:$(free_port)"
[proxy]
listen = "127.0.0.1:$port"
default_cache = "pass"
workers = 1
[caches.pass]
origin = "postgres://127.0.0.1:$PGPORT"
auth = "passthrough"
[caches.session]
origin = "postgres://127.0.0.1:$PGPORT"
auth = "scram"
auth_url = "postgres://postgres@127.0.0.1:$PGPORT/postgres"
pool_mode = "session"
pool_size = 80
[caches.tx]
origin = "postgres://127.0.0.1:$PGPORT"
auth = "scram"
auth_url = "postgres://postgres@127.0.0.1:$PGPORT/postgres"
pool_mode = "transaction"
pool_size = 20
TOML
        "$BINARY" serve --config "$DIR/proxy.toml" >"$DIR/proxy.log" 2>&1 &
        PROXY=$!
        if comes_up "$PROXY" "$(url "$port" bench pass)" "$(url "$port" bench session)" "$(url "$port" bench tx)"; then
            PROXY_PORT=$port
            return
        fi
        kill "$PROXY" 2>/dev/null || true
        wait "$PROXY" 2>/dev/null || true
    done
    die "the proxy does not start: $(tail -n 5 "$DIR/proxy.log")"
}

case " $TARGETS" in *" pgbouncer_"*) start_bouncer ;; esac
case " $TARGETS" in *" proxy_"*) start_proxy ;; esac

# A name, the process that stands between (0 for none), the URL.
for target in $TARGETS; do
    case $target in
        direct) printf '%s\t0\t%s\n' "$target" "$(url "$PGPORT" bench)" ;;
        pgbouncer_*) printf '%s\t%s\t%s\n' "$target" "$BOUNCER" "$(url "$BOUNCER_PORT" "${target#*_}")" ;;
        proxy_transaction) printf '%s\t%s\t%s\n' "$target" "$PROXY" "$(url "$PROXY_PORT" bench tx)" ;;
        proxy_*) printf '%s\t%s\t%s\n' "$target" "$PROXY" "$(url "$PROXY_PORT" bench "${target#*_}")" ;;
    esac
done >"$DIR/targets"

python3 -B "$HERE/measure.py" --targets "$DIR/targets" --pgbench "$PG_BIN/pgbench" --rounds "$ROUNDS" \
    --seconds "$SECONDS_EACH" --idle "$IDLE" --postgres "$("$PG_BIN/postgres" --version)" \
    --pgbouncer "$(pgbouncer --version | sed -n 1p)" ${OUT:+--out "$OUT"}
[ -z "$OUT" ] || say "Written to bench/results/proxy.json"
