-- psql against a server. What it prints is the transcript; variables: schema, pooled (on or off).
\set QUIET on
\set VERBOSITY verbose
\pset null '(null)'
\timing off
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS :"schema" CASCADE;
RESET client_min_messages;
CREATE SCHEMA :"schema";
\set QUIET off

\echo '-- types'
CREATE TABLE :"schema".types (i int, n numeric, t text, y bytea, w timestamptz, j jsonb, a int[], x text);
INSERT INTO :"schema".types VALUES (-42, 12345678901234567890.0987654321, 'Zürich 東京 🐘 ''q'' \', '\x00ff10',
    '2024-02-29 23:59:59.123456Z', '{"a": [1, null, "é"]}', '{1,2,null}', NULL);
SELECT i, n, t, y, w AT TIME ZONE 'UTC' AS w, j, a, x FROM :"schema".types \gx
SELECT i, t, j, a FROM :"schema".types WHERE false \gdesc
SELECT i AS got_i, t AS got_t FROM :"schema".types \gset
\echo :got_i :got_t
SELECT format('SELECT %s AS made', g) FROM generate_series(1, 3) g \gexec
SELECT 1 AS one \; SELECT 'two' AS two \; SELECT 3 AS three WHERE false;
VALUES ('a', 'x', 1), ('b', 'y', 2) \crosstabview
\dt :schema.*

\echo '-- errors'
CREATE TABLE :"schema".errors (id int PRIMARY KEY, v int NOT NULL CHECK (v > 0));
INSERT INTO :"schema".errors VALUES (1, 1), (2, 2);
INSERT INTO :"schema".errors VALUES (1, 1);
\echo :SQLSTATE :ERROR :ROW_COUNT :LAST_ERROR_SQLSTATE
INSERT INTO :"schema".errors VALUES (3, -1);
SELECT FROM WHERE;
\errverbose
SELECT * FROM :"schema".nothing;
SELECT 1 / (3 - g) AS v FROM generate_series(1, 5) g;
SELECT 1 \; SELECT 1/0 \; SELECT 3;
SELECT 1/0 \gdesc

\echo '-- transactions'
BEGIN;
INSERT INTO :"schema".errors VALUES (3, 3);
SELECT 1/0;
SELECT 1;
COMMIT;
SELECT count(*) FROM :"schema".errors;
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO :"schema".errors VALUES (4, 4);
SAVEPOINT one;
INSERT INTO :"schema".errors VALUES (1, 1);
ROLLBACK TO one;
INSERT INTO :"schema".errors VALUES (5, 5);
RELEASE one;
COMMIT AND CHAIN;
SHOW transaction_isolation;
ROLLBACK;
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO :"schema".errors VALUES (6, 6);
SELECT 1/0;
INSERT INTO :"schema".errors VALUES (7, 7);
COMMIT;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
INSERT INTO :"schema".errors VALUES (8, 8);
ROLLBACK;
\set AUTOCOMMIT on
SELECT array_agg(id ORDER BY id) FROM :"schema".errors;
BEGIN READ ONLY;
DELETE FROM :"schema".errors;
ROLLBACK;
COMMIT;

\echo '-- prepared'
BEGIN;
PREPARE plus (int) AS SELECT $1 + 1 AS v;
EXECUTE plus (1);
EXECUTE plus (2);
DEALLOCATE plus;
COMMIT;
\if :pooled
\else
PREPARE plus (int) AS SELECT $1 + 1 AS v;
EXECUTE plus ('x');
EXECUTE plus (3);
DEALLOCATE plus;
EXECUTE plus (4);
\endif

\echo '-- cursors'
BEGIN;
DECLARE walk SCROLL CURSOR FOR SELECT g FROM generate_series(1, 10) g;
FETCH 2 FROM walk;
FETCH LAST FROM walk;
FETCH BACKWARD 2 FROM walk;
MOVE ABSOLUTE 3 IN walk;
FETCH walk;
CLOSE walk;
FETCH walk;
ROLLBACK;
\set FETCH_COUNT 7
SELECT g, repeat('x', g) AS x FROM generate_series(1, 20) g;
\unset FETCH_COUNT

\echo '-- copies'
CREATE TABLE :"schema".copied (id int, v text);
COPY :"schema".copied FROM STDIN;
1	one
2	zwei ü
3	\N
\.
COPY :"schema".copied FROM STDIN (FORMAT csv);
4,"a, b"
not a number,wrong
\.
SELECT set_config('search_path', :'schema', true) \; COPY copied TO STDOUT (FORMAT csv, HEADER);
\copy (SELECT g, md5(g::text) FROM generate_series(1, 5) g) TO STDOUT
\copy (SELECT 1 / (3 - g) FROM generate_series(1, 5) g) TO STDOUT
COPY :"schema".copied TO STDOUT \; SELECT 'and more' AS v;

\echo '-- cancels and notices'
BEGIN;
SET LOCAL statement_timeout = 50;
SELECT pg_sleep(60);
ROLLBACK;
SHOW statement_timeout;
\set VERBOSITY default
DO $$ BEGIN RAISE NOTICE 'hello %', 'ü'; RAISE WARNING 'mind' USING HINT = 'the gap'; END $$;
ROLLBACK;

\echo '-- sessions'
SET work_mem = '7MB';
SHOW work_mem;
RESET work_mem;
SELECT pg_try_advisory_lock(hashtext(:'schema')) AS locked;
SELECT pg_advisory_unlock(hashtext(:'schema')) AS unlocked;
\if :pooled
\else
CREATE TEMP TABLE longer (id int);
INSERT INTO longer VALUES (1), (2);
SELECT count(*) FROM longer;
DROP TABLE longer;
LISTEN :"schema";
-- Its process is another one each time, so what psql says of it is not printed.
\o /dev/null
NOTIFY :"schema", 'heard';
\o
UNLISTEN *;
SET ROLE none;
DISCARD ALL;
\endif

\echo '-- big'
SELECT length(repeat('é', 2500000)), md5(repeat('é', 2500000));
\pset format unaligned
\pset tuples_only on
SELECT repeat('x', 5000000);
SELECT g, md5(g::text) FROM generate_series(1, 20000) g;
\pset tuples_only off
\pset format aligned
SET client_min_messages = warning;
DROP SCHEMA :"schema" CASCADE;
RESET client_min_messages;
\echo 'done:'
