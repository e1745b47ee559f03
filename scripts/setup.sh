#!/usr/bin/env bash
# Installs what is missing and makes a private Postgres for this checkout. Running it again takes a moment.
#
#   scripts/setup.sh          what building, demo and tests need
#   scripts/setup.sh lint     also what the lints need
#
# PG_MAJOR chooses among several installed PostgreSQL versions (14 to 18).
. "$(dirname "$0")/lib.sh"

need_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install the equivalents of: $*"
    local sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "please install as root: apt-get install $*"
        sudo=sudo
    fi
    say "Installing $*"
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get update -qq
    # Debian makes and starts a cluster named main when it installs a server; we need none and leave none.
    local conf=/etc/postgresql-common/createcluster.conf made=
    if ! command -v pg_createcluster >/dev/null && [ ! -e "$conf" ]; then
        $sudo apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null
        if [ -e "$conf" ] && ! grep -q '^create_main_cluster' "$conf"; then
            made=1
            $sudo cp "$conf" "$conf.before"
            printf 'create_main_cluster = false\n' | $sudo tee -a "$conf" >/dev/null
        fi
    fi
    $sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    if [ -n "$made" ]; then $sudo mv "$conf.before" "$conf"; fi
}

installed_majors() {
    local dir major
    for dir in /usr/lib/postgresql/*/bin; do
        major=$(basename "$(dirname "$dir")")
        case $major in 14 | 15 | 16 | 17 | 18) [ -x "$dir/postgres" ] && echo "$major" ;; esac
    done | sort -rn
}

choose_postgres() {
    PG_MAJOR=${PG_MAJOR:-$(installed_majors | head -n 1)}
    if [ -z "$PG_MAJOR" ]; then
        need_packages postgresql
        PG_MAJOR=$(installed_majors | head -n 1)
        [ -n "$PG_MAJOR" ] || die "no PostgreSQL from 14 to 18 could be installed"
    fi
    DISTRIBUTION=/usr/lib/postgresql/$PG_MAJOR
}

missing_packages() {
    [ -x "$DISTRIBUTION/bin/postgres" ] || echo "postgresql-$PG_MAJOR"
    [ -f "/usr/include/postgresql/$PG_MAJOR/server/postgres.h" ] || echo "postgresql-server-dev-$PG_MAJOR"
    command -v cc >/dev/null || echo gcc libc6-dev
    command -v clang >/dev/null || echo clang
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || echo libclang-dev
}

# Postgres finds its share and lib folders relative to where its program lies. So a copy of the programs in
# a tree of the same shape has an extension folder of its own, and nothing is written outside the checkout.
make_prefix() {
    PREFIX=$ROOT/.run/pg/$PG_MAJOR
    PG_BIN=$PREFIX/lib/postgresql/$PG_MAJOR/bin
    local share=share/postgresql/$PG_MAJOR lib=lib/postgresql/$PG_MAJOR/lib file version
    version=$("$DISTRIBUTION/bin/postgres" --version)
    if [ "$(cat "$PREFIX/version" 2>/dev/null)" = "$version" ]; then return; fi
    say "Making a private copy of $version in .run/pg/$PG_MAJOR"
    rm -rf "$PREFIX"
    mkdir -p "$PG_BIN" "$PREFIX/$lib" "$PREFIX/$share/extension" "$PREFIX/include"
    cp "$DISTRIBUTION"/bin/* "$PG_BIN/"
    ln -s "$DISTRIBUTION"/lib/* "$PREFIX/$lib/"
    for file in "/usr/$share"/*; do
        [ "$(basename "$file")" = extension ] || ln -s "$file" "$PREFIX/$share/"
    done
    ln -s "/usr/$share/extension"/* "$PREFIX/$share/extension/"
    ln -s /usr/include/postgresql "$PREFIX/include/postgresql"
    chmod -R a+rX "$PREFIX"
    printf '%s\n' "$version" >"$PREFIX/version"
}

make_tools() {
    if ! "$ROOT/.tools/bin/cargo-pgrx" pgrx --version 2>/dev/null | grep -q " $CARGO_PGRX_VERSION\$"; then
        say "Building cargo-pgrx $CARGO_PGRX_VERSION (a few minutes, once)"
        build_tool cargo-pgrx "$CARGO_PGRX_VERSION"
    fi
    mkdir -p "$ROOT/.tools/pgrx"
    printf '[configs]\npg%s = "%s"\n' "$PG_MAJOR" "$PG_BIN/pg_config" >"$ROOT/.tools/pgrx/config.toml"
    if ! cargo nextest --version >/dev/null 2>&1 && ! [ -x "$ROOT/.tools/bin/cargo-nextest" ]; then
        say "Building cargo-nextest (a few minutes, once)"
        build_tool cargo-nextest '^0.9'
    fi
    if [ "${1:-}" = lint ] && ! command -v cargo-deny >/dev/null && ! [ -x "$ROOT/.tools/bin/cargo-deny" ]; then
        say "Building cargo-deny (a few minutes, once)"
        build_tool cargo-deny '^0.18'
    fi
}

build_tool() {
    cargo install --debug --locked --quiet --root "$ROOT/.tools" --target-dir "$ROOT/.tools/build" \
        "$1" --version "$2"
    rm -rf "$ROOT/.tools/build"
}

command -v cargo >/dev/null || die "a Rust toolchain is needed: cargo is not on the PATH"
choose_postgres
# shellcheck disable=SC2046 # one word a package
need_packages $(missing_packages)
make_run_dir
make_prefix
make_tools "${1:-}"
mkdir -p "$ROOT/.run/clusters"
if [ "$(id -u)" = 0 ]; then chown "$RUN_AS" "$ROOT/.run/clusters"; fi

cat >"$ROOT/.run/env" <<EOF
PG_MAJOR=$PG_MAJOR
PG_BIN=$PG_BIN
RUN_AS=$RUN_AS
CLUSTERS=$ROOT/.run/clusters
EOF
