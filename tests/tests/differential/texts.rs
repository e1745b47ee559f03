//! The statements that streams are made of. None shows what differs between two servers by itself: a process, a
//! time, a transaction's number, the OID of what a stream makes.

/// Role, tables and rows, made the same way in both servers.
pub(crate) const SCHEMA: &str = "
    CREATE ROLE app LOGIN PASSWORD 'correct horse';
    CREATE ROLE other; GRANT other TO app;
    CREATE TABLE items (id int PRIMARY KEY, name text);
    CREATE TABLE changing (c int);
    GRANT ALL ON items TO app, other;
    ALTER TABLE changing OWNER TO app";

/// Brings the rows and columns back that a stream may have changed, and writes nothing where none has. It waits
/// until the one before is over.
pub(crate) const RESTORE: &str = "
    BEGIN; LOCK TABLE items, changing IN SHARE MODE;
    DO $$ BEGIN
        IF (SELECT atttypid FROM pg_attribute WHERE attrelid = 'changing'::regclass AND attnum = 1) <> 23 THEN
            ALTER TABLE changing ALTER c TYPE int USING 1;
        END IF;
        IF (SELECT string_agg(c::text, ',') FROM changing) IS DISTINCT FROM '1' THEN
            TRUNCATE changing; INSERT INTO changing VALUES (1);
        END IF;
        IF (SELECT string_agg(id || ' ' || name, ',') FROM items) IS DISTINCT FROM
           (SELECT string_agg(n || ' item ' || n, ',') FROM generate_series(1, 20) n) THEN
            TRUNCATE items; INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 20) n;
        END IF;
    END $$;
    COMMIT";

/// Texts for Query, whatever the pooling.
pub(crate) const QUERIES: &[&str] = &[
    "SELECT 1",
    "SELECT 'ä', NULL::text, 1.5, true, now() IS NULL",
    "SELECT * FROM items ORDER BY id LIMIT 3",
    "",
    ";;",
    "-- nothing",
    "SELECT",
    "SELECT 1; SELECT 2; SELECT 3;",
    "SELEC 1",
    "SELECT 'no end",
    "SELECT 1; SELEC 2",
    "SELECT 1; SELECT 1 / 0; SELECT 2",
    "SELECT * FROM nowhere",
    "SELECT no_such_function(1)",
    "SELECT 1 / (id - 2) FROM items ORDER BY id",
    // Transactions.
    "BEGIN",
    "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY",
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "END; BEGIN",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "BEGIN; SELECT 1 / 0; COMMIT",
    "BEGIN; INSERT INTO items VALUES (5000, 'x'); COMMIT; SELECT 2",
    "SET TRANSACTION READ ONLY",
    "SHOW transaction_isolation",
    // Changes.
    "INSERT INTO items VALUES (1, 'twice')",
    "INSERT INTO items SELECT max(id) + 1, 'new' FROM items",
    "UPDATE items SET name = name || '!' WHERE id < 4 RETURNING *",
    "DELETE FROM items WHERE id = 2",
    "ALTER TABLE changing ALTER c TYPE text",
    "ALTER TABLE changing ALTER c TYPE int USING 1",
    "SELECT * FROM changing",
    // Settings.
    "SET work_mem = '7MB'",
    "SET LOCAL work_mem = '9MB'",
    "SHOW work_mem",
    "RESET work_mem",
    "SET datestyle = 'German'",
    "BEGIN; SET datestyle = 'SQL, DMY'; ROLLBACK",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET application_name = 'other'",
    "SET client_encoding = 'LATIN1'",
    "SET standard_conforming_strings = off",
    "SET intervalstyle = 'iso_8601'; SELECT 'DONE'",
    "SET search_path = pg_catalog",
    "SHOW search_path",
    "SET ROLE other",
    "RESET ROLE",
    "SELECT current_user, session_user",
    "RESET ALL",
    "SET bogus = 1",
    "SET my.tenant = 'it''s'",
    // A setting that no module has declared is NULL only until somebody sets it; RESET leaves it empty.
    "SELECT coalesce(current_setting('my.tenant', true), '')",
    "SELECT set_config('work_mem', '6MB', false)",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET client_min_messages = 'warning'",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DISCARD TEMP",
    // What comes beside the answers.
    "DO $$ BEGIN RAISE NOTICE 'note %', 1; RAISE WARNING 'two'; END $$",
    "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'P0099', DETAIL = 'd', HINT = 'h'; END $$",
    "LISTEN a",
    "UNLISTEN *",
    "NOTIFY a, 'text'",
    "NOTIFY a; SELECT 1; NOTIFY b, 'other'",
    "SELECT pg_notify('a', 'ä')",
    // Cursors.
    "DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id",
    "DECLARE h CURSOR WITH HOLD FOR SELECT id FROM items ORDER BY id",
    "BEGIN; DECLARE c SCROLL CURSOR FOR SELECT id FROM items ORDER BY id; FETCH 2 FROM c",
    "FETCH 2 FROM c",
    "FETCH BACKWARD 1 FROM c",
    "FETCH ALL FROM h",
    "CLOSE c",
    "CLOSE ALL",
    // Statements by SQL.
    "PREPARE q AS SELECT $1::int",
    "PREPARE q (text) AS SELECT $1",
    "EXECUTE q(1)",
    "DEALLOCATE q",
    "DEALLOCATE s1",
    "DEALLOCATE PREPARE \"s2\"",
    "DEALLOCATE ALL",
    // What lives as long as a session.
    "CREATE TEMP TABLE mine (n int)",
    "CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1 AS n",
    "INSERT INTO mine VALUES (1), (2)",
    "SELECT n + 0 AS n FROM mine",
    "DROP TABLE mine",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_unlock(1)",
    // Large.
    "SELECT repeat('x', 65531), 1",
    "SELECT repeat('x', 200000)",
    "SELECT g, repeat('y', 100) FROM generate_series(1, 20000) g",
    "SELECT repeat('z', 70000) FROM generate_series(1, 20)",
    "SELECT g, 1 / (g - 3000) FROM generate_series(1, 5000) g",
    "COPY (SELECT g, repeat('c', 50) FROM generate_series(1, 3000) g) TO STDOUT",
    "COPY items TO STDOUT WITH (FORMAT binary)",
    "COPY (SELECT 1 / (g - 500) FROM generate_series(1, 1000) g) TO STDOUT; SELECT 1",
    "COPY (SELECT 1) TO STDOUT; SELECT 2; COPY (SELECT 3) TO STDOUT",
    "COPY items FROM '/no/such/file'",
    "SELECT pg_cancel_backend(pg_backend_pid())",
];

/// Texts for Query of which most can be kept.
pub(crate) const READS: &[&str] = &[
    "SELECT * FROM items ORDER BY id LIMIT 3",
    "SELECT count(*) FROM items WHERE id IN (1, 5000)",
    "SELECT 1 / (id - 2) FROM items WHERE id IN (1, 2) ORDER BY id",
    "SELECT 1",
    "SELECT 2 AS two; SELECT 3",
    "SELECT * FROM changing",
];

/// What comes between them.
pub(crate) const BETWEEN: &[&str] = &[
    "BEGIN",
    "START TRANSACTION READ ONLY",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "UPDATE items SET name = name || '!' WHERE id = 2",
    "INSERT INTO items VALUES (5000, 'x')",
    "DEALLOCATE ALL",
    "SET LOCAL search_path = pg_catalog",
];

/// A text to prepare, the types it declares, and parameters that fit.
pub(crate) type Statement = (&'static str, &'static [u32], &'static [Option<&'static str>]);

/// Texts for Parse.
pub(crate) const STATEMENTS: &[Statement] = &[
    ("SELECT 1", &[], &[]),
    ("SELECT $1::int + 1", &[], &[Some("41")]),
    ("SELECT $1, $2", &[25, 23], &[Some("text"), None]),
    ("SELECT * FROM items WHERE id = $1", &[23], &[Some("7")]),
    ("SELECT * FROM items WHERE id > $1 ORDER BY id", &[], &[Some("3")]),
    ("SELECT generate_series(1, 10)", &[], &[]),
    ("SELECT g, repeat('w', 1000) FROM generate_series(1, $1) g", &[23], &[Some("700")]),
    ("SELECT repeat('x', 100000)", &[], &[]),
    ("SELECT 1 / ($1 - 1)", &[23], &[Some("1")]),
    ("SELECT 1 / (5 - g) FROM generate_series(1, 9) g", &[], &[]),
    ("INSERT INTO items SELECT max(id) + 1, $1 FROM items RETURNING id", &[25], &[Some("n")]),
    ("INSERT INTO items VALUES (1, 'twice')", &[], &[]),
    ("UPDATE items SET name = $2 WHERE id = $1", &[], &[Some("3"), Some("b")]),
    ("SELECT * FROM changing", &[], &[]),
    ("ALTER TABLE changing ALTER c TYPE text", &[], &[]),
    ("", &[], &[]),
    ("-- nothing", &[], &[]),
    ("SELEC", &[], &[]),
    ("SELECT * FROM nowhere", &[], &[]),
    ("SELECT 1; SELECT 2", &[], &[]),
    ("SELECT $1", &[9_999_999], &[Some("1")]),
    ("BEGIN", &[], &[]),
    ("COMMIT", &[], &[]),
    ("ROLLBACK", &[], &[]),
    ("SAVEPOINT a", &[], &[]),
    ("SET work_mem = '8MB'", &[], &[]),
    ("SELECT set_config($1, $2, false)", &[], &[Some("datestyle"), Some("German")]),
    ("SHOW work_mem", &[], &[]),
    ("DO $$ BEGIN RAISE NOTICE 'from a block'; END $$", &[], &[]),
    ("DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id", &[], &[]),
    ("FETCH 3 FROM c", &[], &[]),
    ("LISTEN a", &[], &[]),
    ("NOTIFY a, 'e'", &[], &[]),
    ("COPY items TO STDOUT", &[], &[]),
    ("DEALLOCATE ALL", &[], &[]),
    ("DEALLOCATE s1", &[], &[]),
    ("DISCARD ALL", &[], &[]),
    ("CREATE TEMP TABLE mine (n int)", &[], &[]),
    ("SELECT n + $1 AS n FROM mine", &[23], &[Some("1")]),
];

/// Those for units of their own.
pub(crate) const READ_STATEMENTS: &[Statement] = &[
    ("SELECT * FROM items WHERE id = $1", &[23], &[Some("2")]),
    ("SELECT * FROM items WHERE id > $1 ORDER BY id", &[], &[Some("17")]),
    ("SELECT name FROM items WHERE id = 2", &[], &[]),
    ("SELECT 1 / (id - $1) FROM items WHERE id = 2", &[], &[Some("2")]),
];

/// What comes between them.
pub(crate) const STATEMENTS_BETWEEN: &[Statement] = &[
    ("UPDATE items SET name = $2 WHERE id = $1", &[], &[Some("2"), Some("b")]),
    ("BEGIN", &[], &[]),
    ("START TRANSACTION", &[], &[]),
    ("COMMIT", &[], &[]),
    ("ROLLBACK", &[], &[]),
];

/// Those of them that pooling by transactions is known to answer otherwise: a statement that was prepared by Parse
/// has another name in the server, which SQL finds only in a Query of its own.
pub(crate) const UNSHARED: &[&str] = &["DEALLOCATE s1"];
