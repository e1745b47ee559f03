#!/usr/bin/env bash
# Installs what is missing and makes a private Postgres for this checkout. Running it again takes a moment.
#
#   scripts/setup.sh              what building, demo and tests need
#   scripts/setup.sh lint         also what the lints need
#   scripts/setup.sh drivers      also the programs that the tests run: database and OAuth clients, Redis, what verifies webhooks,
#                                 schemathesis
#   scripts/setup.sh fuzz         also what fuzzing needs
#   scripts/setup.sh bench-proxy  also what the proxy is measured beside
#   scripts/setup.sh bench-cache  also what the cache is measured beside
#   scripts/setup.sh bench-notify also what notifications go to
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
    $sudo apt-get update -qq || die "apt-get update failed, so these can't be installed: $*"
    case " $*" in *" postgresql"*) without_main_cluster install "$@" ;; *) install "$@" ;; esac
}

install() {
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null \
        || die "apt-get could not install: $*"
}

# Debian makes and starts a cluster named main when it installs a server. We need none and leave none, so its
# setting is off meanwhile, and put back however this ends.
without_main_cluster() (
    conf=/etc/postgresql-common/createcluster.conf
    [ -e "$conf" ] || install postgresql-common
    $sudo cp -p "$conf" "$conf.before"
    trap '$sudo mv "$conf.before" "$conf"' EXIT
    { grep -v '^ *create_main_cluster' "$conf.before" || true; echo 'create_main_cluster = false'; } \
        | $sudo tee "$conf" >/dev/null
    "$@"
)

installed_majors() { # the newest first; those with the files to build against before those without
    local major
    for major in 18 17 16 15 14; do
        if has_server "$major" && has_headers "$major"; then echo "$major"; fi
    done
    for major in 18 17 16 15 14; do
        if has_server "$major"; then echo "$major"; fi
    done
}
has_server() { [ -x "/usr/lib/postgresql/$1/bin/postgres" ]; }
has_headers() { [ -f "/usr/include/postgresql/$1/server/postgres.h" ]; }

choose_postgres() {
    if [ -z "${PG_MAJOR:-}" ] && [ -z "$(installed_majors)" ]; then need_packages postgresql; fi
    PG_MAJOR=${PG_MAJOR:-$(installed_majors | sed -n 1p)}
    case $PG_MAJOR in
        14 | 15 | 16 | 17 | 18) ;;
        '') die "the distribution has no PostgreSQL from 14 to 18" ;;
        *) die "PG_MAJOR is $PG_MAJOR, but it has to be from 14 to 18" ;;
    esac
    DISTRIBUTION=/usr/lib/postgresql/$PG_MAJOR
}

missing_packages() {
    has_server "$PG_MAJOR" || echo "postgresql-$PG_MAJOR"
    has_headers "$PG_MAJOR" || echo "postgresql-server-dev-$PG_MAJOR"
    command -v cc >/dev/null || echo gcc libc6-dev
    command -v clang >/dev/null || echo clang
    compgen -G '/usr/lib/llvm-*/lib/libclang[.-][s0-9]*' >/dev/null || echo libclang-dev
    # cargo-pgrx links to OpenSSL; nothing of ours does.
    [ -x "$ROOT/.tools/bin/cargo-pgrx" ] || pkg-config --exists openssl 2>/dev/null || echo pkg-config libssl-dev
}

# Postgres finds its share and lib folders relative to where its program lies. So a copy of the programs in
# a tree of the same shape has an extension folder of its own, and nothing is written outside the checkout.
make_prefix() {
    PREFIX=$RUN/pg/$PG_MAJOR
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
    chmod -R a+rX "$RUN/pg"
    printf '%s\n' "$version" >"$PREFIX/version"
}

make_tools() {
    if ! "$ROOT/.tools/bin/cargo-pgrx" pgrx --version 2>/dev/null | grep -q " $CARGO_PGRX_VERSION\$"; then
        say "Building cargo-pgrx $CARGO_PGRX_VERSION (a few minutes, once)"
        build_tool cargo-pgrx "$CARGO_PGRX_VERSION"
    fi
    mkdir -p "$ROOT/.tools/pgrx"
    printf '[configs]\npg%s = "%s"\n' "$PG_MAJOR" "$PG_BIN/pg_config" \
        | write_if_changed "$ROOT/.tools/pgrx/config.toml"
    if ! cargo nextest --version >/dev/null 2>&1 && ! [ -x "$ROOT/.tools/bin/cargo-nextest" ]; then
        say "Building cargo-nextest (a few minutes, once)"
        build_tool cargo-nextest '^0.9'
    fi
    if [ "${1:-}" = fuzz ] && ! command -v cargo-fuzz >/dev/null && ! [ -x "$ROOT/.tools/bin/cargo-fuzz" ]; then
        say "Building cargo-fuzz (a few minutes, once)"
        build_tool cargo-fuzz '^0.13'
    fi
    if [ "${1:-}" = lint ] && ! command -v cargo-deny >/dev/null && ! [ -x "$ROOT/.tools/bin/cargo-deny" ]; then
        say "Building cargo-deny (a few minutes, once)"
        build_tool cargo-deny '^0.18'
    fi
}

# --- the clients of the driver tests, and what verifies webhooks ---

DRIVERS=$ROOT/.tools/drivers

driver_packages() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3 python3-venv
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
    # A program of one file is compiled when it starts, which takes more than a runtime.
    command -v javac >/dev/null || echo default-jdk-headless
    [ -e /usr/share/java/postgresql.jar ] || echo libpostgresql-jdbc-java
}

# Outside of git, and what was there before is replaced as a whole: nobody's leftovers take part in a test.
make_drivers() {
    local from=$ROOT/tests/drivers stamp
    # A venv knows the folder it was made in.
    stamp=$(cat "$from/python/requirements.txt" "$from/node/package.json" "$from/node/package-lock.json" | cksum
        python3 --version; node --version; printf '%s\n' "$ROOT")
    if [ "$(cat "$DRIVERS/stamp" 2>/dev/null)" = "$stamp" ]; then return; fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "the driver tests need Python 3.10 or newer"
    node -e 'process.exit(Number(process.versions.node.split(".")[0] < 18))' || die "the driver tests need Node 18 or newer"
    say "Installing the clients of the driver tests"
    rm -rf "$DRIVERS"
    mkdir -p "$DRIVERS/node"
    python3 -m venv "$DRIVERS/python"
    "$DRIVERS/python/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --requirement "$from/python/requirements.txt"
    cp "$from/node/package.json" "$from/node/package-lock.json" "$DRIVERS/node/"
    (cd "$DRIVERS/node" && npm ci --loglevel=error --ignore-scripts --no-audit --no-fund >/dev/null)
    printf '%s\n' "$stamp" >"$DRIVERS/stamp"
}

# --- services that tests run themselves, and those that the benchmarks measure beside ---

# Debian starts a service when it installs it, and again with the machine. What we bring is not to stay running;
# one that was there before is somebody's own and left alone.
bring_service() { # PACKAGE PROGRAM; the service has the package's name
    local sudo=
    # Debian has most of them where only root looks for programs.
    if command -v "$2" >/dev/null || [ -x "/usr/sbin/$2" ]; then return; fi
    need_packages "$1"
    [ "$(id -u)" = 0 ] || sudo=sudo
    if [ -d /run/systemd/system ]; then
        $sudo systemctl --quiet disable --now "$1" || die "please stop the service $1"
    else
        $sudo service "$1" stop >/dev/null 2>&1 || true
        $sudo update-rc.d "$1" disable >/dev/null 2>&1 || true
    fi
}

bring_cache_peers() {
    bring_service pgpool2 pgpool
    bring_service redis-server redis-server
    command -v redis-benchmark >/dev/null || need_packages redis-tools
}

# A new time on the same text would have the extension's bindings built again; and somebody may be reading.
write_if_changed() {
    cat >"$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

build_tool() {
    cargo install --debug --locked --quiet --root "$ROOT/.tools" --target-dir "$ROOT/.tools/build" \
        "$1" --version "$2"
    rm -rf "$ROOT/.tools/build"
}

command -v cargo >/dev/null || die "a Rust toolchain is needed: cargo is not on the PATH"
case ${1:-} in '' | lint | drivers | fuzz | bench-proxy | bench-cache | bench-notify) ;; *) die "there is no set-up for $1" ;; esac
choose_postgres
# shellcheck disable=SC2046 # one word a package
need_packages $(missing_packages
    case ${1:-} in
        drivers) driver_packages ;;
        # libFuzzer is C++.
        fuzz) command -v c++ >/dev/null || echo g++ ;;
    esac)
choose_runner
make_run_dir
make_prefix
make_tools "${1:-}"
case ${1:-} in
    drivers)
        make_drivers
        bring_service redis-server redis-server
        ;;
    bench-proxy) bring_service pgbouncer pgbouncer ;;
    bench-cache) bring_cache_peers ;;
    bench-notify) bring_service redis-server redis-server ;;
esac
mkdir -p "$RUN/clusters"
if [ "$(id -u)" = 0 ]; then chown "$RUN_AS" "$RUN/clusters"; fi

write_if_changed "$RUN/env" <<EOF
PG_MAJOR=$PG_MAJOR
PG_BIN=$PG_BIN
RUN_AS=$RUN_AS
CLUSTERS=$RUN/clusters
EOF
