#!/usr/bin/env bash
# Walks the usage guide against a sample database, on a cluster and a port of its own.
. "$(dirname "$0")/lib.sh"
. "$ROOT/.run/env"
. "$ROOT/scripts/cluster.sh"

# Where the caller's own sidecar would connect to is none of ours.
unset ${!INTEGRATEDB_@}

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then B=$'\e[1m' C=$'\e[36m' R=$'\e[0m'; else B='' C='' R=''; fi

# --- what is started here is stopped here, however this ends ---

DEMO=$(mktemp -d "$CLUSTERS/demo.XXXXXX")
SIDECAR=
stop() {
    trap - EXIT HUP INT TERM
    [ -z "$SIDECAR" ] || { kill "$SIDECAR"; wait "$SIDECAR"; } 2>/dev/null || true
    remove_cluster "$DEMO"
}
trap stop EXIT
trap 'stop; exit 130' HUP INT TERM

# --- telling ---

STEP=0
step() { STEP=$((STEP + 1)); printf '\n%s%d. %s%s\n' "$B" "$STEP" "$1" "$R"; shift; for line; do printf '   %s\n' "$line"; done; }
show_command() { printf '\n%s   $ %s%s\n' "$C" "$1" "$R"; }
indent() { sed 's/^/     /'; }
expect() { # WHAT PATTERN: the last answer has to be as told, or the demo fails.
    grep -qE -- "$2" <<<"$ANSWER" || { printf '%s\n' "$ANSWER" | indent; die "the demo expected $1"; }
}

psql_as() { # ROLE SQL…: the answer goes to ANSWER and to the reader; a refusal is part of the story.
    local role=$1; shift
    show_command "psql -U $role -c \"$*\""
    ANSWER=$(PGPASSWORD=${PASSWORD:-} "$PG_BIN/psql" --no-psqlrc -qX -U "$role" -c "$*" 2>&1) || true
    printf '%s\n' "$ANSWER" | indent
}
ask() { "$PG_BIN/psql" --no-psqlrc -qXAt -U postgres "$@"; }

# No proxy and no .curlrc could help with an address of this machine.
curl_here() { curl -q --noproxy '*' -s "$@"; }
# curl, with the token where there is one. Answers are shown with tokens cut short, and kept in ANSWER.
call() { # METHOD PATH [JSON]
    local method=$1 path=$2 body=${3:-} shown
    shown="curl -X $method${TOKEN:+ -H \"\$AUTH_HEADER\"} \$ENDPOINT$path${body:+ -d '$body'}"
    show_command "$shown"
    ANSWER=$(curl_here -X "$method" ${TOKEN:+-H "Authorization: Bearer $TOKEN"} \
        -H 'Content-Type: application/json' ${body:+-d "$body"} "$ENDPOINT$path")
    pretty "$ANSWER" | sed -E 's/("(token|refreshToken)": ?"[^"]{8})[^"]*/\1…/g' | indent
}
# Postgres is at hand, so it reads and prints JSON for us.
pretty() {
    ask -v json="$1" <<<"SELECT CASE WHEN length(:'json') < 300 THEN :'json' ELSE jsonb_pretty(:'json'::jsonb) END" \
        2>/dev/null || printf '%s\n' "$1"
}
field() { ask -v json="$ANSWER" -v path="$1" <<<"SELECT :'json'::jsonb #>> :'path'::text[]"; }

# --- a cluster and a sidecar ---

printf '%sIntegrateDB: applications share one Postgres and do not break each other%s\n' "$B" "$R"
start_cluster "$DEMO" <<<'log_statement = none'
export PGDATABASE=shop PGCONNECT_TIMEOUT=5
PGDATABASE=postgres ask -c 'CREATE DATABASE shop'
ask -f "$ROOT/scripts/demo/shop.sql"

step "A shop's database" \
    "Customers, products, orders, a view: $(ask -c 'SELECT count(*) FROM orders') orders in all." \
    "The shop owns it. A superuser adds the extension, and a role for the sidecar that is no superuser."
psql_as postgres "CREATE EXTENSION integratedb; CREATE ROLE sidecar LOGIN PASSWORD 'demo'; SELECT integratedb.grant_sidecar('sidecar')"
expect "the extension" 'grant_sidecar'

for try in 1 2 3 4 5; do
    API=$(free_port)
    # Not --database: a command line is visible to everybody on the machine.
    INTEGRATEDB_DATABASE_URL="postgres://sidecar:demo@127.0.0.1:$PGPORT/shop?sslmode=disable" \
        "$ROOT/target/debug/integratedb" serve --listen "127.0.0.1:$API" >"$DEMO/sidecar.log" 2>&1 &
    SIDECAR=$!
    ENDPOINT=http://127.0.0.1:$API
    if curl_here --retry 50 --retry-delay 0 --retry-max-time 20 --retry-all-errors -o /dev/null "$ENDPOINT/health/ready" \
        && kill -0 "$SIDECAR" 2>/dev/null; then break; fi
    [ "$try" != 5 ] || die "the sidecar does not start: $(tail -n 5 "$DEMO/sidecar.log")"
done

step "The first user" "It needs no login. From then on everything does."
TOKEN=
call POST /api/v1/users '{"user": {"username": "root", "password": "correct horse battery"}}'
expect "a token" '"refreshToken"'
TOKEN=$(field '{data,token}')
call GET /api/v1/users
expect "one user" '"username": ?"root"'

step "Two stakeholders" "Each is an application: a Postgres role with a schema of its own." \
    "The password is shown once and stored nowhere."
call POST /api/v1/stakeholders '{"stakeholder": {"name": "fulfilment"}}'
FULFILMENT=$(field '{data,credentials,password}')
expect "credentials" '"password"'
call POST /api/v1/stakeholders '{"stakeholder": {"name": "reporting"}}'
expect "credentials" '"password"'

step "A claim that does not fit is refused" "With what was asked, what is there, and where in the document."
call PUT /api/v1/stakeholders/1/claims '{"data": {"match": [{"path": "public.orders", "fields": [{"name": "id", "type": "int"}, "customer"]}]}}'
expect "the type to be refused" 'does not match existing column value `bigint`'

step "Claims" "Fulfilment needs some columns of orders and customers, reporting all of orders and the view."
call PUT /api/v1/stakeholders/1/claims '{"data": {"match": [{"path": "public.orders", "fields": ["id", "product_id", "quantity", {"name": "note", "min_length": 200}]}, {"path": "public.customers", "fields": ["id", "name"]}]}}'
expect "the claims" '"type": ?"CLAIMS"'
call PUT /api/v1/stakeholders/2/claims '{"data": {"match": [{"path": "public.orders", "fields": ["*"]}, {"path": "public.revenue", "fields": ["*"]}]}}'
expect "the claims" '"type": ?"CLAIMS"'

step "Claiming grants" "Fulfilment may now read exactly what it claimed, and nothing else."
PASSWORD=$FULFILMENT psql_as fulfilment "SELECT id, product_id, quantity FROM orders LIMIT 2"
expect "two rows" '2 rows'
PASSWORD=$FULFILMENT psql_as fulfilment "SELECT card_digits FROM customers"
expect "a refusal" 'permission denied'
psql_as postgres "\\dp customers"
expect "the grants" 'fulfilment=r'

step "Before a migration: who uses this?" 
export INTEGRATEDB_DATABASE_URL="postgres://postgres@127.0.0.1:$PGPORT/shop?sslmode=disable"
tool() { # WORDS…
    show_command "integratedb $*"
    ANSWER=$("$ROOT/target/debug/integratedb" "$@" 2>&1) && CODE=0 || CODE=$?
    printf '%s\n' "$ANSWER" | indent
    printf '     (exit code %s)\n' "$CODE"
}
tool who-uses public.orders.product_id
expect "both stakeholders" 'fulfilment.*product_id'
cat >"$DEMO/041_product_uuid.sql" <<'SQL'
BEGIN;
ALTER TABLE orders RENAME TO legacy_orders;
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_uuid uuid NOT NULL, quantity integer NOT NULL, note varchar(400));
SELECT integratedb_validate_migration();
COMMIT;
SQL
step "And would this migration break it?" "It runs in a transaction that is always rolled back."
indent <"$DEMO/041_product_uuid.sql"
cd "$DEMO"
tool check 041_product_uuid.sql
expect "a refusal" 'reporting needs public.orders.product_id'
[ "$CODE" = 1 ] || die "the demo expected exit code 1"

step "The migration itself is refused" "Its last statement validates; nothing of it is committed."
show_command "psql -f 041_product_uuid.sql"
ANSWER=$("$PG_BIN/psql" --no-psqlrc -qX -U postgres -f 041_product_uuid.sql 2>&1) || true
printf '%s\n' "$ANSWER" | sed 's/^psql:[^ ]*: //' | indent
expect "a refusal" 'ERROR:  IntegrateDB.InvalidMigration'
expect "what would break" 'DETAIL:  .*fulfilment needs public.orders.product_id'
expect "what to do about it" 'HINT:  Please resolve'
[ "$(ask -c "SELECT to_regclass('legacy_orders') IS NULL")" = t ] || die "the demo expected nothing to be committed"

step "The specs evolve" "Both stakeholders say what else they can work with: the new shape, or the old under its new name."
call PUT /api/v1/stakeholders/1/claims '{"data": {"match": [{"alternatives": [{"path": "public.orders", "fields": ["product_uuid", "quantity"]}, {"path": "public.orders", "fields": ["id", "product_id", "quantity"]}]}, {"path": "public.customers", "fields": ["id", "name"]}]}}'
expect "the claims" '"alternatives"'
call PUT /api/v1/stakeholders/2/claims '{"data": {"match": [{"alternatives": [{"path": "public.legacy_orders", "fields": ["id", {"alternatives": ["product_id", "product_uuid"]}, "quantity"]}, {"path": "public.orders", "fields": ["id", "product_id", "quantity"]}]}, {"path": "public.revenue", "fields": ["*"]}]}}'
expect "the claims" '"alternatives"'

step "The same migration is accepted" "Claims and grants follow in the same transaction."
show_command "psql -f 041_product_uuid.sql"
ANSWER=$("$PG_BIN/psql" --no-psqlrc -qX -U postgres -f 041_product_uuid.sql 2>&1)
printf '%s\n' "$ANSWER" | sed 's/^psql:[^ ]*: //' | indent
expect "the validation to pass" 'IntegrateDB validated migration OK'
psql_as postgres "\\dp *orders"
expect "grants on the new table" 'product_uuid'

step "Without anybody's discipline" "In strict enforcement every COMMIT of DDL validates itself."
psql_as postgres "ALTER DATABASE shop SET integratedb.enforcement = strict"
psql_as postgres "ALTER TABLE customers DROP COLUMN name"
expect "a refusal" 'ERROR:  IntegrateDB.InvalidMigration'
psql_as postgres "ALTER TABLE customers DROP COLUMN card_digits"
[ -z "$ANSWER" ] || die "the demo expected the unclaimed column to go"

printf '\n%sThat was the guide.%s All of it ran in %s, with ports of its own.\n' "$B" "$R" "$DEMO"
if [ -t 0 ] && [ -t 1 ]; then
    printf 'It stays up for you to try:\n\n   psql -h %s -p %s -U postgres shop\n   export ENDPOINT=%s AUTH_HEADER="Authorization: Bearer %s"\n\nStop it with Ctrl-C; nothing is left behind.\n' \
        "$PGHOST" "$PGPORT" "$ENDPOINT" "$TOKEN"
    # Stopping it now is how it is meant to end.
    trap 'stop; exit 0' HUP INT TERM
    wait "$SIDECAR"
else
    printf 'Nothing is left running. In a terminal it would stay up until Ctrl-C.\n'
fi
