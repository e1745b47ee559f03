# A Redis that keeps nothing; sourced after targets.sh. Sets REDIS, its process, and REDIS_PORT; adds to STARTED what has
# to be stopped. DIR is a folder to write to.

start_redis() {
    local try pid end
    for try in 1 2 3 4 5; do
        REDIS_PORT=$(free_port)
        redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --save '' --appendonly no --dir "$DIR" >"$DIR/redis.log" 2>&1 &
        pid=$! end=$((SECONDS + 10))
        until [ "$(redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping 2>/dev/null)" = PONG ]; do
            [ -d "/proc/$pid" ] && [ "$SECONDS" -lt "$end" ] || break
            sleep 0.05
        done
        if [ -d "/proc/$pid" ]; then
            STARTED="$STARTED $pid" REDIS=$pid
            return
        fi
        stop_one "$pid"
    done
    die "Redis does not start: $(tail -n 5 "$DIR/redis.log")"
}
