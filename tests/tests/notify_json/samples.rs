//! Values to compare, as SQL.

/// Types of the system with literals of each.
pub(crate) const SAMPLES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("bytea", &["'\\x'", "'\\x00ff5c'"]),
    ("\"char\"", &["'a'", "''", "'\\377'", "'\"'"]),
    ("name", &["'a'", "''", "'\"b\" c'"]),
    ("int8", &["'-9223372036854775808'", "9223372036854775807", "0"]),
    ("int2", &["'-32768'", "32767"]),
    ("int2vector", &["''", "'1'", "'1 -2 3'"]),
    ("int4", &["'-2147483648'", "2147483647"]),
    ("regproc", &["'now'", "'0'"]),
    (
        "text",
        &[
            "''",
            "'a'",
            "'NULL'",
            "'null'",
            "E'\\b\\f\\n\\r\\t\\x01\\x0b\\x1f\\x7f'",
            "'a/b\"\\é😀'",
            "' '",
        ],
    ),
    ("oid", &["0", "4294967295"]),
    ("tid", &["'(0,1)'"]),
    ("xid", &["'0'", "'4294967295'"]),
    ("cid", &["'7'"]),
    ("oidvector", &["''", "'1'", "'1 4294967295'"]),
    (
        "json",
        &["'1'", "'null'", "'\"a\\u00e9\\/\"'", "E'{\"a\" :  [1,\\n 2], \"a\": {}}'", "'1e400'"],
    ),
    (
        "jsonb",
        &["'1'", "'null'", "'\"a\\u00e9\\/\"'", "E'{\"a\" :  [1,\\n 2], \"b\": {}}'", "'1e40'"],
    ),
    ("xml", &["'<a b=\"c\">é</a>'"]),
    ("point", &["'(1,-2.5)'", "'(NaN,Infinity)'"]),
    ("lseg", &["'[(1,2),(3,4)]'"]),
    ("path", &["'((1,2),(3,4))'", "'[(1,2),(3,4)]'"]),
    ("box", &["'(1,2),(3,4)'"]),
    ("polygon", &["'((1,2),(3,4),(5,6))'"]),
    ("line", &["'{1,2,3}'"]),
    ("circle", &["'<(1,2),3>'"]),
    ("cidr", &["'10.0.0.0/8'", "'::/0'"]),
    ("inet", &["'10.1.2.3'", "'10.1.2.3/8'", "'::1'", "'fe80::1/64'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    (
        "float4",
        &[
            "'0.1'",
            "'-0'",
            "'1e-30'",
            "'3.4e38'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'1e6'",
            "'123456789'",
        ],
    ),
    (
        "float8",
        &[
            "'0.1'",
            "'-0'",
            "'1e-300'",
            "'1.7e308'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'1e15'",
            "'1e16'",
        ],
    ),
    (
        "numeric",
        &[
            "0",
            "'-0.00'",
            "'1e-40'",
            "'1e60'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'00012.3400'",
        ],
    ),
    ("money", &["'1234567.89'", "'-0.5'"]),
    ("aclitem", &["'postgres=r/postgres'"]),
    ("bpchar", &["'a  '", "''"]),
    ("varchar", &["'a'", "''"]),
    (
        "date",
        &[
            "'2026-11-21'",
            "'0044-03-15 BC'",
            "'4714-11-24 BC'",
            "'5874897-12-31'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    ("time", &["'00:00'", "'24:00'", "'14:00:00.123456'"]),
    ("timetz", &["'00:00+00'", "'24:00-15:59'", "'14:00:00.1+05:30:15'"]),
    (
        "timestamp",
        &[
            "'2026-11-21 14:00'",
            "'2026-11-21 14:00:00.120'",
            "'4714-11-24 00:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'infinity'",
            "'-infinity'",
            "'0001-01-01'",
            "'10000-01-01'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'2026-11-21 14:00+05:30'",
            "'2026-11-21 14:00:00.120 America/New_York'",
            "'4714-11-24 00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'infinity'",
            "'-infinity'",
            "'1800-01-01'",
        ],
    ),
    ("interval", &["'0'", "'1 year 2 mons -3 days 04:05:06.7'", "'-1 mon'", "'178956970 years'"]),
    ("bit", &["B'1'", "B'0'"]),
    ("varbit", &["B''", "B'1010'"]),
    ("refcursor", &["'a b'"]),
    ("regprocedure", &["'now()'"]),
    ("regoper", &["'||/'"]),
    ("regoperator", &["'+(int,int)'"]),
    ("regclass", &["'pg_class'", "'information_schema.tables'", "0"]),
    ("regtype", &["'timestamptz'", "'int[]'"]),
    ("regconfig", &["'simple'"]),
    ("regdictionary", &["'simple'"]),
    ("regnamespace", &["'pg_catalog'"]),
    ("regrole", &["'postgres'"]),
    ("regcollation", &["'\"C\"'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("txid_snapshot", &["'1:3:2'"]),
    ("pg_snapshot", &["'1:3:2'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("tsvector", &["'a:1 ''b c'':2A'", "''"]),
    ("tsquery", &["'a & !''b c'''"]),
    ("jsonpath", &["'$.\"a b\"[*] ? (@ > 1)'"]),
    ("int4range", &["'[1,3)'", "'empty'", "'(,)'"]),
    ("int8range", &["'[1,3)'"]),
    ("numrange", &["'(1.50,3]'"]),
    ("tsrange", &["'[2026-11-21 14:00,infinity]'"]),
    ("tstzrange", &["'[2026-11-21 14:00+02,)'"]),
    ("daterange", &["'[2026-11-21,2026-11-22]'"]),
    ("int4multirange", &["'{}'", "'{[1,3),[5,7)}'"]),
    ("int8multirange", &["'{[1,3)}'"]),
    ("nummultirange", &["'{(1.50,3]}'"]),
    ("tsmultirange", &["'{[2026-11-21 14:00,infinity]}'"]),
    ("tstzmultirange", &["'{[2026-11-21 14:00+02,)}'"]),
    ("datemultirange", &["'{[2026-11-21,2026-11-22]}'"]),
];

/// Types that are made of others.
pub(crate) const TYPES: &str = r#"
    CREATE TYPE mood AS ENUM ('ok', 'so so', 'NULL', '', '"', '\', 'a,b;{}()');
    CREATE TYPE pair AS (a int, b text);
    CREATE TYPE empty AS ();
    CREATE TYPE single AS (a text);
    CREATE TYPE halved AS (a int, b text, "C ""d"" é" timestamptz, e json);
    ALTER TYPE halved DROP ATTRIBUTE b;
    CREATE DOMAIN positive AS int CHECK (value > 0);
    CREATE DOMAIN moment AS timestamptz;
    CREATE DOMAIN later AS moment;
    CREATE DOMAIN document AS jsonb;
    CREATE DOMAIN ints_domain AS int[];
    CREATE DOMAIN pair_domain AS pair;
    CREATE DOMAIN pairs_domain AS pair_domain[];
    CREATE DOMAIN box_domain AS box;
    CREATE TYPE deep AS (
        id positive, name text, "at" later, tags text[], doc json, inner_pair pair, pairs pair[], ints ints_domain,
        span tstzrange, mood mood, raw bytea, ok bool, lists pairs_domain
    );
    CREATE TYPE deeper AS (d deep, ds deep[], n numeric);
    CREATE TYPE textrange AS RANGE (subtype = text);
    CREATE TYPE pairrange AS RANGE (subtype = pair);
    CREATE TABLE shop (id int, gone text, name text, "at" date);
    ALTER TABLE shop DROP COLUMN gone;
    CREATE TYPE painted AS ENUM ('red');
    CREATE FUNCTION painted_json(painted) RETURNS json LANGUAGE sql AS $$ SELECT '{"paint": 1}'::json $$;
    CREATE CAST (painted AS json) WITH FUNCTION painted_json(painted);
    CREATE DOMAIN painted_domain AS painted;
    CREATE TYPE painted_pair AS (a int, b painted);
    CREATE TYPE assigned AS (a int);
    CREATE FUNCTION assigned_json(assigned) RETURNS json LANGUAGE sql AS $$ SELECT '7'::json $$;
    CREATE CAST (assigned AS json) WITH FUNCTION assigned_json(assigned);
    CREATE TYPE by_text AS ENUM ('1');
    CREATE CAST (by_text AS json) WITH INOUT;
"#;

/// Values of them.
pub(crate) const MADE_OF_OTHERS: &[&str] = &[
    "'so so'::mood",
    "ARRAY['ok', NULL, 'NULL', '', '\"', '\\', 'a,b;{}()']::mood[]",
    "ROW(1, 'x')::pair",
    "ROW(NULL, NULL)::pair",
    "ROW(1, '')::pair",
    "ROW(1, E'a \"b\" ''c'' \\\\ (d),\\n\\t\\x0b{e}')::pair",
    "ROW()::empty",
    "ARRAY[ROW()::empty, NULL]",
    "ROW(NULL)::single",
    "ROW('')::single",
    "ROW('NULL')::single",
    "ROW(1, '0044-03-15 12:00+00 BC', '{\"a\": \"(,)\"}')::halved",
    "ARRAY[ROW(1, 'infinity', '[1, \"\\\\\"]')::halved, NULL, ROW(NULL, NULL, NULL)::halved]",
    "7::positive",
    "'2026-11-21'::moment",
    "'2026-11-21'::later",
    "ARRAY['2026-11-21', NULL]::later[]",
    "'{\"b\": 1, \"a\": null}'::document",
    "ARRAY['{\"b\": \"\\\\\"}'::document]",
    "'{{1,2},{3,NULL}}'::ints_domain",
    "'[-1:0][5:5]={{1},{2}}'::ints_domain",
    "ARRAY['{1,2}'::ints_domain, '{}'::ints_domain, NULL::ints_domain]",
    "ROW(1, 'x')::pair_domain",
    "ARRAY[ROW(1, 'x,\"y\"')::pair_domain, NULL]::pairs_domain",
    "ARRAY[ARRAY[ROW(1, 'x')::pair_domain]::pairs_domain, '{}'::pairs_domain]",
    "ARRAY['(1,2),(3,4)', NULL]::box_domain[]",
    "'[a,\"b \"\"c\")'::textrange",
    "textrange('a', 'b\"\\')",
    "textmultirange(textrange('a', 'b\"\\'))",
    "pairrange(ROW(1, 'a'), ROW(2, '\"'))",
    "ROW(7, E'a\\'\"\\\\', '2026-11-21 14:00', ARRAY['a', NULL, 'NULL', '\"', '{\\}'], '{\"a\": \"\\\\\\\"\"}', \
         ROW(1, 'in \"it\"'), ARRAY[ROW(1, 'a\"b\\c'), NULL, ROW(NULL, '')]::pair[], '[0:1]={1,NULL}', \
         '[2026-11-21,)', 'a,b;{}()', '\\x5c22', true, ARRAY[ROW(2, '{\"(')::pair_domain])::deep",
    "ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::deep",
    "ROW(ROW(7, 'x', 'infinity', '{}', '[]', NULL, '{}', '{}', 'empty', 'ok', '', false, '{}')::deep, \
         ARRAY[ROW(7, '\\\"', NULL, '{\"\\\\\",\"\\\"\"}', '\"\\\\\"', ROW(NULL, '\\')::pair, '{}', NULL, NULL, '\\', \
         NULL, NULL, NULL)::deep, NULL], 'NaN')::deeper",
    "ROW(1, 'x', '2026-11-21')::shop",
    "ARRAY[ROW(1, 'x', '2026-11-21')::shop]",
    // to_json asks for no cast of a row, and one by way of the text gives the text.
    "ROW(1)::assigned",
    "'1'::by_text",
];

/// Extensions with values of their types.
pub(crate) const EXTENSIONS: &[(&str, &[&str])] = &[
    (
        "hstore",
        &[
            "''::hstore",
            "'a=>1, \"b \\\"c\\\\\"=>NULL, \"\"=>\"\", d=>\"NULL\"'::hstore",
            "hstore(ARRAY['é', E'\\n', ',', '=>'], ARRAY[E'\\t\"', '\\', NULL, '{}'])",
            "ARRAY['a=>1'::hstore, NULL, '', '\"\\\"\"=>\"\\\\\"']",
        ],
    ),
    ("citext", &["'A\"b'::citext", "ARRAY['A'::citext, NULL, 'null']"]),
    ("ltree", &["'a.b.c'::ltree", "ARRAY['a.b'::ltree]", "'a.*{1,2}'::lquery"]),
    ("cube", &["'(1,2),(3,4)'::cube", "ARRAY['(1,2)'::cube]"]),
    ("seg", &["'1 .. 2'::seg"]),
    ("isn", &["'978-0-393-04002-9'::isbn"]),
];

/// Functions that make up values.
pub(crate) const CHARACTERS: &str = r#"
    -- Volatile and with a FROM, so a row has values of its own.
    CREATE FUNCTION some_text(most int) RETURNS text LANGUAGE sql VOLATILE AS $$
        SELECT coalesce(string_agg(
            CASE WHEN random() < 0.8 THEN special[1 + floor(random() * array_length(special, 1))::int]
                ELSE chr(1 + floor(random() * 55000)::int) END, ''), '')
        FROM generate_series(1, floor(random() * (most + 1))::int),
            (SELECT ARRAY['"', '\', '{', '}', '(', ')', ',', ';', '=', '>', '[', ']', ':', ' ', '/', '''', '%',
                E'\t', E'\n', E'\r', E'\f', E'\b', E'\x0b', E'\x01', E'\x1f', E'\x7f', E'\u0085', E'\u00a0', E'\u2028',
                'é', '😀', 'NULL', 'null', 'a', 'Z', '0', 'a long one of letters only']) s(special) $$;
    CREATE FUNCTION maybe_text(most int) RETURNS text LANGUAGE sql VOLATILE AS $$
        SELECT CASE WHEN random() < 0.15 THEN NULL ELSE some_text(most) END FROM generate_series(1, 1) $$;
    CREATE FUNCTION some_texts() RETURNS text[] LANGUAGE sql VOLATILE AS $$
        SELECT array_agg(maybe_text(4)) FROM generate_series(1, 1 + floor(random() * 4)::int) $$;
    CREATE FUNCTION some_moment() RETURNS timestamp LANGUAGE sql VOLATILE AS $$
        SELECT CASE WHEN random() < 0.02 THEN 'infinity' WHEN random() < 0.02 THEN '-infinity'
            WHEN random() < 0.5 THEN date_trunc(
                (ARRAY['day', 'second', 'milliseconds', 'microseconds'])[1 + floor(random() * 4)::int],
                timestamp '2000-01-01' + (random() - 0.5) * 6000 * interval '365 days')
            ELSE (date '4714-11-24 BC' + floor(random() * 109000000)::int) + random() * interval '1 day' END
        FROM generate_series(1, 1) $$;
    CREATE FUNCTION some_pairs() RETURNS pair[] LANGUAGE sql VOLATILE AS $$
        SELECT array_agg(CASE WHEN random() < 0.2 THEN NULL ELSE ROW(floor(random() * 100), maybe_text(4))::pair END)
        FROM generate_series(1, 1 + floor(random() * 3)::int) $$;
    CREATE FUNCTION some_deep() RETURNS deep LANGUAGE sql VOLATILE AS $$
        SELECT ROW(1 + floor(random() * 100), maybe_text(6), some_moment(), some_texts(),
            to_json(ROW(some_text(3), some_texts())), ROW(NULL, maybe_text(3)), some_pairs(),
            ARRAY[floor(random() * 9)::int, NULL], tstzrange(NULL, clock_timestamp()), 'a,b;{}()',
            convert_to(some_text(3), 'UTF8'), random() < 0.5, some_pairs()::pair_domain[])::deep
        FROM generate_series(1, 1) $$;
"#;

/// Values that differ from row to row.
pub(crate) const RANDOM: &[&str] = &[
    "some_text(8)",
    "some_text(60)",
    "some_text(8)::bpchar",
    "convert_to(some_text(8), 'UTF8')",
    "some_texts()",
    "ARRAY[ARRAY[maybe_text(3), maybe_text(3)], ARRAY[maybe_text(3), maybe_text(3)]]",
    "array_fill(maybe_text(5), ARRAY[1 + n % 3, 1 + n % 2], ARRAY[n % 5 - 2, n % 3])",
    "ROW(n, maybe_text(6))::pair",
    "some_pairs()",
    "some_deep()",
    "ROW(some_deep(), ARRAY[some_deep(), NULL], random())::deeper",
    "to_json(ROW(n, some_texts(), some_text(5)))",
    "to_jsonb(some_texts())",
    "ARRAY[to_jsonb(some_texts()), NULL, to_jsonb(some_deep())]",
    "some_moment()",
    "some_moment()::timestamptz",
    "ARRAY[some_moment()::timestamptz, NULL, some_moment()]",
    "date '4714-11-24 BC' + floor(random() * 2147483493)::int",
    "some_moment()::date",
    "(random() - 0.5) * 1e4 * interval '1 month' + (random() - 0.5) * interval '10 days'",
    "tsrange(some_moment(), NULL)",
    "textrange(maybe_text(4), NULL)",
    "trunc((random() - 0.5)::numeric * power(10::numeric, (random() * 80 - 40)::int), (random() * 50)::int)",
    "(random() - 0.5) * power(10::float8, random() * 600 - 300)",
    "((random() - 0.5) * power(10::float8, random() * 70 - 35))::float4",
    "ARRAY[(random() - 0.5) * 1e9, NULL, 'NaN', random()]",
    "floor((random() - 0.5) * 1.8e19)::int8",
    "gen_random_uuid()",
    "random() < 0.5",
    "ARRAY[random() < 0.5, NULL]",
];
