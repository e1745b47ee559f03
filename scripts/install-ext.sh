#!/usr/bin/env bash
# Builds the extension and installs it into this checkout's private Postgres.
. "$(dirname "$0")/lib.sh"
. "$ROOT/.run/env"

export PGRX_HOME=$ROOT/.tools/pgrx CARGO_TARGET_DIR=$ROOT/target/pgrx
installed=$(dirname "$PG_BIN")/lib/integratedb.so
# cargo-pgrx writes its SQL anew each time, which costs seconds; so it is asked only when a source is newer.
if [ -e "$installed" ] && [ -z "$(find "$ROOT/integratedb-ext" "$ROOT/crates/claims" "$ROOT/sql" \
    "$ROOT/Cargo.toml" "$ROOT/Cargo.lock" -newer "$installed" -type f -print -quit)" ]; then
    exit 0
fi
say "Building the extension for PostgreSQL $PG_MAJOR"
cd "$ROOT/integratedb-ext"
log=$ROOT/.run/install-ext.log
if ! "$ROOT/.tools/bin/cargo-pgrx" pgrx install --release --pg-config "$PG_BIN/pg_config" \
    --no-default-features --features "pg$PG_MAJOR" >"$log" 2>&1; then
    cat "$log" >&2
    die "the extension does not build"
fi
# Cargo keeps the time of an unchanged library; ours says when it was last found up to date.
touch "$installed"
chmod -R a+rX "$ROOT/.run/pg/$PG_MAJOR"
