#!/usr/bin/env bash
# Feeds what reads bytes from outside with bytes that libFuzzer makes up: each target in fuzz/ for SECONDS_EACH
# seconds. What was found interesting stays in fuzz/corpus for the next time; what fails is in fuzz/artifacts.
#
#   scripts/fuzz.sh            all targets
#   scripts/fuzz.sh template   only these
. "$(dirname "$0")/lib.sh"

SECONDS_EACH=${SECONDS_EACH:-60}
case $SECONDS_EACH in '' | *[!0-9]*) die "SECONDS_EACH is $SECONDS_EACH, but it has to be a number" ;; esac

# To begin with: libFuzzer finds the shape of a message by itself, but it takes long.
seed() { # TARGET NAME FORMAT, as printf has it
    mkdir -p "fuzz/corpus/$1"
    # shellcheck disable=SC2059 # the bytes are written as a format
    printf "$3" >"fuzz/corpus/$1/seed-$2"
}

make_seeds() {
    seed wire_frontend session '\0\0\0\042\0\003\0\0user\0a\0database\0b\0opt\0c\0\0'
    seed wire_frontend ssl '\0\0\0\010\004\322\026\057'
    seed wire_frontend cancel '\0\0\0\020\004\322\026\056\0\0\0\007\001\002\003\004'
    seed wire_frontend query 'Q\0\0\0\015SELECT 1\0S\0\0\0\004X\0\0\0\004'
    seed wire_frontend parse 'P\0\0\0\024s\0SELECT $1\0\0\001\0\0\0\027'
    seed wire_frontend bind 'B\0\0\0\035p\0s\0\0\001\0\001\0\002\377\377\377\377\0\0\0\00142\0\0\001\0\001'
    seed wire_frontend portal 'D\0\0\0\007Ss\0E\0\0\0\012p\0\0\0\0\005C\0\0\0\007Pp\0'
    seed wire_frontend copy 'd\0\0\0\006a\012c\0\0\0\004f\0\0\0\007no\0F\0\0\0\004'
    seed wire_backend login 'R\0\0\0\027\0\0\0\012SCRAM-SHA-256\0\0R\0\0\0\010\0\0\0\0'
    seed wire_backend status 'S\0\0\0\012a\0b\0K\0\0\0\014\0\0\0\001abcdZ\0\0\0\005I'
    seed wire_backend rows 'T\0\0\0\032\0\001a\0\0\0\0\0\0\0\0\0\0\027\0\004\377\377\377\377\0\0D\0\0\0\017\0\002\0\0\0\0011\377\377\377\377C\0\0\0\015SELECT 1\0'
    seed wire_backend error 'E\0\0\0\020SERROR\0C42\0\0N\0\0\0\005\0'
    seed wire_backend other 't\0\0\0\012\0\001\0\0\0\0271\0\0\0\0042\0\0\0\0043\0\0\0\004A\0\0\0\014\0\0\0\001a\0b\0G\0\0\0\011\0\0\001\0\0'
    seed pgoutput begin 'B\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\001'
    seed pgoutput relation 'R\0\0\0\001public\0t\0d\0\001\001id\0\0\0\0\027\377\377\377\377'
    seed pgoutput update 'U\0\0\0\001K\0\002t\0\0\0\0011nN\0\002t\0\0\0\0012u'
    seed pgoutput truncate 'T\0\0\0\001\001\0\0\0\001'
    seed pgoutput message 'M\001\0\0\0\0\0\0\0\001p\0\0\0\0\001x'
    seed pgoutput keepalive 'k\0\0\0\0\0\0\0\001\0\0\0\0\0\0\0\0\001'
    seed template select "SELECT a, \"B\", 'c', \$1, -1.5e3, \$\$d\$\$ FROM x.y WHERE z IN (1, 2) -- e"
    seed template changes 'WITH q AS (DELETE FROM t RETURNING *) INSERT INTO u VALUES (1, DEFAULT), (2, DEFAULT) ON CONFLICT DO NOTHING'
    seed template settings "SET LOCAL a.b TO 'c', d; RESET ALL; SELECT set_config('x', 'y', false)"
    seed template others "BEGIN; DECLARE c CURSOR WITH HOLD FOR TABLE t; PREPARE p AS SELECT E'\\\\\\\\'; DO U&'x'; COMMIT"
    seed template definitions 'CREATE TEMP TABLE t (a int[] DEFAULT array[1, 2], b text COLLATE "C"); /* /* */ */ ALTER ROLE r PASSWORD $q$p$q$'
    seed values numbers '\010[0:1]={{1,NULL},{2,3}}'
    seed values texts '\011{NULL,"NULL","a \\"b\\\\",c}'
    seed values boxes '\012{(1,2),(3,4);(5,6),(7,8)}'
    seed values times '\016{"2026-11-21 14:00:00.5+00",infinity,"0044-03-15 12:00:00+00 BC"}'
    seed values row '\020(1,"{a,""b c""}","2026-11-21 14:00:00+00")'
    seed values rows '\022("{""(1,,)"",NULL}","(,""{a}"",infinity)")'
    seed values hstores '\023{"\\"a\\"=>\\"1\\", \\"b\\"=>NULL"}'
    seed values float '\005-1.5e-07'
    seed values vectors '\007{"1 2",""}'
    seed values lists '\024{"{1,2}","{}"}'
}

cd "$ROOT"
[ $# -gt 0 ] || set -- wire_frontend wire_backend pgoutput template values
make_seeds
for target; do
    say "Fuzzing $target for $SECONDS_EACH s"
    # Without a sanitizer the stable compiler does; safe Rust leaves a sanitizer little to find.
    cargo fuzz run --sanitizer none --target-dir target/fuzz "$target" -- \
        -max_total_time="$SECONDS_EACH" -timeout=10 -max_len=8192 -print_funcs=0 -verbosity=0 \
        || die "$target fails: what it was fed is in fuzz/artifacts/$target"
done
