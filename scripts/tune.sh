#!/usr/bin/env bash
# Builds the sidecar for what it is used for: first one that counts how often what of it runs, then, after the benchmarks
# have put that to work, one that is laid out accordingly. In the end target/tuned/integratedb. It takes as long as two
# optimised builds from the start, and two minutes of work.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

for peers in bench-proxy bench-cache bench-notify; do "$ROOT/scripts/setup.sh" "$peers"; done
TUNED=$ROOT/target/tuned
# Build scripts are not counted when the target is named.
HOST=$(rustc -vV | sed -n 's/^host: //p')
# The toolchain's own: profiles have a format for each version of the compiler.
MERGE=$(rustc --print target-libdir)/../bin/llvm-profdata
[ -x "$MERGE" ] || rustup --quiet component add llvm-tools \
    || die "the toolchain's llvm-profdata is needed: rustup component add llvm-tools"

build() { # FLAG
    CARGO_ENCODED_RUSTFLAGS=$1 cargo build --quiet --release --target "$HOST" --target-dir "$TUNED/build" \
        -p integratedb-sidecar
    BUILT=$TUNED/build/$HOST/release/integratedb
}

rm -rf "$TUNED/build" "$TUNED/counts"
mkdir -p "$TUNED/counts"
say "Building a sidecar that counts"
build "-Cprofile-generate=$TUNED/counts"
cp "$BUILT" "$TUNED/counting"

work() { # BENCHMARK
    say "Putting it to work: $1"
    PROGRAM=$TUNED/counting LLVM_PROFILE_FILE=$TUNED/counts/%m-%p.profraw "$ROOT/bench/$1/run.sh" >"$TUNED/log" 2>&1 \
        || die "bench/$1 failed: $(tail -n 5 "$TUNED/log")"
}
# Only parts of each, so that nothing is written to bench/results.
export QUICK=1
TARGETS="proxy_pass proxy_session proxy_transaction" IDLE=100 work proxy
TARGETS=cache PHASES="hits mixed" work cache
PHASES="burst webhook" work notify
PHASES=converge work sync

"$MERGE" merge -o "$TUNED/profile" "$TUNED"/counts/*.profraw
say "Building the sidecar for that"
build "-Cprofile-use=$TUNED/profile"
mv "$BUILT" "$TUNED/integratedb"
# Cargo would not notice that there is another profile the next time.
rm -rf "$TUNED/build" "$TUNED/counts" "$TUNED/counting" "$TUNED/log" "$TUNED/profile"
say "It is target/tuned/integratedb"
