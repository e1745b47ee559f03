# A private Postgres for a script; sourced after lib.sh and .run/env.

# Neither the caller's language nor where the caller's own psql would connect to may change what happens here.
export LC_ALL=C.UTF-8
for name in ${!PG@}; do
    case $name in PG_MAJOR | PG_BIN) ;; *) unset "$name" ;; esac
done

free_port() { # of a range below the ephemeral ports, so that nobody's outgoing connection has it
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
    done
}

# Makes and starts a cluster in the folder $1 with further settings from standard input. Sets PGHOST and PGPORT.
# The superuser is trusted; everybody else proves who they are.
start_cluster() {
    local dir=$1 try
    chmod 755 "$dir"
    if [ "$(id -u)" = 0 ]; then chown "$RUN_AS" "$dir"; fi
    as_runner "$PG_BIN/initdb" -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --no-sync >/dev/null
    { cat "$ROOT/pg_test.conf" -; echo "unix_socket_directories = ''"; } \
        | as_runner tee "$dir/data/postgresql.auto.conf" >/dev/null
    printf 'host all %s 127.0.0.1/32 %s\n' postgres trust all scram-sha-256 \
        | as_runner tee "$dir/data/pg_hba.conf" >/dev/null
    # Not by a socket: its path may be no longer than 107 bytes, and a checkout's can be.
    export PGHOST=127.0.0.1 PGPORT
    for try in 1 2 3 4 5; do
        PGPORT=$(free_port)
        if as_runner "$PG_BIN/pg_ctl" -D "$dir/data" -o "-p $PGPORT" -l "$dir/data/log" -w start >/dev/null; then
            return
        fi
    done
    die "Postgres does not start after $try attempts: $(as_runner tail -n 5 "$dir/data/log")"
}

# Stops the cluster in the folder $1, if it runs, and removes it.
remove_cluster() {
    [ ! -f "$1/data/postmaster.pid" ] \
        || as_runner "$PG_BIN/pg_ctl" -D "$1/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$1"
}
