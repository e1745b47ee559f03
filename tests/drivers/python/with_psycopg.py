"""psycopg 3 against a server: a transcript that is the same whatever stands between."""

import datetime
import decimal
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from common import BIG, MANY, SLEEPS, arguments, digest, poll, say

URL, SCHEMA, POOLED = arguments()
UTC = datetime.timezone.utc


def q(text):
    """The statement with `s.` standing for the schema."""
    return text.replace("s.", f"{SCHEMA}.")


def connect(**options):
    return psycopg.connect(URL, **options)


def failing(what, conn, statement, params=None, **options):
    """Runs what has to fail, and tells how."""
    try:
        conn.execute(statement, params, **options)
        raise AssertionError(f"{what} did not fail")
    except psycopg.Error as error:
        tell(what, error)


def tell(what, error):
    diag = error.diag
    say(what, type(error).__name__, error.sqlstate, diag.severity, diag.message_primary,
        diag.message_detail, diag.constraint_name, diag.table_name, diag.statement_position)


def parameters(conn):
    for name in ("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone",
                 "integer_datetimes", "standard_conforming_strings", "is_superuser", "session_authorization"):
        say(f"parameter {name}", conn.info.parameter_status(name))


def types(conn):
    conn.execute(q("""CREATE TABLE s.types (
        i int, b bigint, n numeric, f float8, t text, y bytea, o boolean, w timestamptz, d date,
        v interval, j jsonb, u uuid, a int[], ta text[], r int4range, x text)"""))
    row = (-42, 2**62, decimal.Decimal("12345678901234567890.0987654321"), 0.1, "Zürich 東京 🐘 'q' \\ \n",
           bytes(range(256)), True, datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, UTC),
           datetime.date(1999, 12, 31), datetime.timedelta(days=3, seconds=4), Jsonb({"a": [1, None, "é"]}),
           uuid.UUID(int=7), [1, 2, None], ["a", 'b"c', None, "d,e"], Range(1, 5), None)
    marks = ", ".join(["%s"] * len(row))
    binary_marks = ", ".join(["%b"] * len(row))
    conn.execute(q(f"INSERT INTO s.types VALUES ({marks})"), row)
    conn.execute(q(f"INSERT INTO s.types VALUES ({binary_marks})"), row)
    for binary in (False, True):
        for got in conn.execute(q("SELECT * FROM s.types"), binary=binary):
            for column, value in enumerate(got):
                if isinstance(value, datetime.datetime):
                    value = value.astimezone(UTC)
                say(f"type {column} binary={binary}", repr(value))
    cursor = conn.execute(q("SELECT i, n, t FROM s.types WHERE false"))
    say("columns", [(c.name, c.type_code) for c in cursor.description], cursor.rowcount)


def errors(conn):
    conn.execute(q("CREATE TABLE s.errors (id int PRIMARY KEY, v int NOT NULL CHECK (v > 0))"))
    say("insert", conn.execute(q("INSERT INTO s.errors VALUES (1, 1), (2, 2)")).statusmessage)
    failing("unique", conn, q("INSERT INTO s.errors VALUES (%s, 1)"), (1,))
    failing("check", conn, q("INSERT INTO s.errors VALUES (%s, %s)"), (3, -1))
    failing("not null", conn, q("INSERT INTO s.errors VALUES (4, NULL)"))
    failing("syntax", conn, "SELECT FROM WHERE")
    failing("syntax, with parameters", conn, "SELECT %s FROM WHERE", (1,))
    failing("no such table", conn, q("SELECT * FROM s.nothing"))
    failing("division", conn, "SELECT 1 / %s", (0,))
    failing("not a number", conn, "SELECT %s::text::int", ("x",))
    failing("raised", conn, "DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'AB123', DETAIL = 'more'; END $$")
    say("still there", conn.execute(q("SELECT count(*) FROM s.errors")).fetchone())


def transactions(conn):
    conn.execute(q("CREATE TABLE s.tx (id int PRIMARY KEY)"))
    count = q("SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM s.tx")
    conn.autocommit = False
    conn.execute(q("INSERT INTO s.tx VALUES (1)"))
    say("state in a transaction", conn.info.transaction_status.name)
    conn.commit()
    conn.execute(q("INSERT INTO s.tx VALUES (2)"))
    failing("error in a transaction", conn, "SELECT 1/0")
    say("state after the error", conn.info.transaction_status.name)
    failing("after the error", conn, "SELECT 1")
    failing("after the error, with parameters", conn, "SELECT %s::int", (1,))
    conn.rollback()
    say("rolled back", conn.execute(count).fetchone(), conn.info.transaction_status.name)
    conn.rollback()
    with conn.transaction():
        conn.execute(q("INSERT INTO s.tx VALUES (3)"))
        try:
            with conn.transaction():
                conn.execute(q("INSERT INTO s.tx VALUES (4)"))
                conn.execute(q("INSERT INTO s.tx VALUES (1)"))
        except psycopg.Error as error:
            tell("in a savepoint", error)
        with conn.transaction("kept"):
            conn.execute(q("INSERT INTO s.tx VALUES (5)"))
    say("savepoints", conn.execute(count).fetchone())
    conn.commit()
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.read_only = True
    say("serializable", conn.execute("SHOW transaction_isolation").fetchone())
    failing("read only", conn, q("INSERT INTO s.tx VALUES (6)"))
    conn.rollback()
    conn.isolation_level = conn.read_only = None
    conn.autocommit = True
    say("state at the end", conn.info.transaction_status.name)


def two_phases(conn):
    conn.execute(q("CREATE TABLE s.phases (id int)"))
    conn.autocommit = False
    for finish in ("tpc_commit", "tpc_rollback"):
        xid = conn.xid(1, f"{SCHEMA}-{finish}", "branch")
        conn.tpc_begin(xid)
        conn.execute(q("INSERT INTO s.phases VALUES (1)"))
        conn.tpc_prepare()
        getattr(conn, finish)()
        say(finish, conn.execute(q("SELECT count(*) FROM s.phases")).fetchone())
        conn.rollback()
    conn.autocommit = True


def prepared(conn):
    conn.execute(q("CREATE TABLE s.prepared (id int, v text)"))
    for threshold in (0, 5, None):
        conn.prepare_threshold = threshold
        got = []
        for i in range(12):
            conn.execute(q("INSERT INTO s.prepared VALUES (%s, %s)"), (i, f"v{i}"))
            got += conn.execute(q("SELECT v FROM s.prepared WHERE id = %s LIMIT 1"), (i,)).fetchone()
        say(f"prepared from {threshold}", got)
    conn.prepare_threshold = 0
    # More statements than the client keeps, so that it also deallocates.
    conn.prepared_max = 10
    total = 0
    for i in range(40):
        total += conn.execute(f"SELECT {i} + %s::int", (1,)).fetchone()[0]
    say("more statements than are kept", total)
    failing("prepared error", conn, "SELECT 1 / %s::int", (0,))
    failing("prepared error again", conn, "SELECT 1 / %s::int", (0,))
    say("and then", conn.execute("SELECT 1 / %s::int", (1,)).fetchone())
    conn.prepare_threshold, conn.prepared_max = 5, 100
    cursor = conn.cursor()
    cursor.executemany(q("INSERT INTO s.prepared VALUES (%s, %s)"), [(100 + i, "m") for i in range(500)])
    say("executemany", cursor.rowcount)
    cursor.executemany(q("INSERT INTO s.prepared VALUES (%s, 'r') RETURNING id"), [(i,) for i in (1, 2)], returning=True)
    say("executemany returning", [c.fetchone() for c in cursor.results()])


def changed_plan(conn):
    """A statement that was prepared on one server connection outlives a change of its table there."""
    conn.execute(q("CREATE TABLE s.plan (a int)"))
    conn.execute(q("INSERT INTO s.plan VALUES (1)"))
    say("before", conn.execute(q("SELECT * FROM s.plan WHERE a = %s"), (1,), prepare=True).fetchone())
    # Elsewhere, because the client forgets its statements when it sees an ALTER itself.
    with connect(autocommit=True) as other:
        other.execute(q("ALTER TABLE s.plan ADD b int DEFAULT 2"))
    failing("after", conn, q("SELECT * FROM s.plan WHERE a = %s"), (1,), prepare=True)
    conn.execute("DEALLOCATE ALL")
    say("anew", conn.execute(q("SELECT * FROM s.plan WHERE a = %s"), (1,), prepare=True).fetchone())


def cursors(conn):
    with conn.transaction():
        with conn.cursor(name="plain") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT g, g * 2 FROM generate_series(1, %s) g", (1000,))
            say("cursor", cursor.fetchone(), cursor.fetchmany(3), sum(row[1] for row in cursor))
        with conn.cursor(name="scrolls", scrollable=True, binary=True) as cursor:
            cursor.execute("SELECT g FROM generate_series(1, 10) g")
            cursor.scroll(8)
            say("scrolled", cursor.fetchall())
            cursor.scroll(0, mode="absolute")
            say("back", cursor.fetchmany(2))
    if not POOLED:
        with conn.cursor(name="held", withhold=True) as cursor:
            cursor.execute("SELECT g FROM generate_series(1, 5) g")
            say("held", cursor.fetchmany(2), cursor.fetchall())
    with conn.cursor() as cursor:
        say("row by row", sum(row[0] for row in cursor.stream("SELECT g FROM generate_series(1, 500) g")))
        cursor.execute("SELECT 1; SELECT 'two', 2; SELECT 3 WHERE false; SET LOCAL work_mem = '1MB'")
        several = []
        while True:
            several.append((cursor.statusmessage, cursor.fetchall() if cursor.description else None))
            if not cursor.nextset():
                break
        say("several statements", several)
    failing("several statements, one wrong", conn, "SELECT 1; SELECT 1/0; SELECT 3")
    say("empty statement", conn.execute("").statusmessage)


def pipelines(conn):
    conn.execute(q("CREATE TABLE s.piped (id int PRIMARY KEY)"))
    with conn.pipeline() as pipeline:
        for i in range(200):
            conn.execute(q("INSERT INTO s.piped VALUES (%s)"), (i,))
        cursor = conn.execute(q("SELECT count(*), sum(id) FROM s.piped"))
        pipeline.sync()
        say("pipeline", cursor.fetchone())
    try:
        with conn.pipeline():
            conn.execute(q("INSERT INTO s.piped VALUES (%s)"), (1000,))
            conn.execute(q("INSERT INTO s.piped VALUES (%s)"), (1,))
            conn.execute(q("INSERT INTO s.piped VALUES (%s)"), (1001,))
    except psycopg.Error as error:
        tell("pipeline error", error)
    say("after the pipeline", conn.execute(q("SELECT count(*) FROM s.piped")).fetchone())
    with conn.pipeline() as pipeline:
        try:
            conn.execute("SELECT 1/0")
            pipeline.sync()
        except psycopg.Error as error:
            tell("first of two", error)
        say("second of two", conn.execute("SELECT %s::int", (2,)).fetchone())
    with conn.transaction(), conn.pipeline():
        cursors = [conn.execute("SELECT %s::int * 2", (i,)) for i in range(5)]
        say("pipeline in a transaction", [c.fetchone()[0] for c in cursors])


def copies(conn):
    conn.execute(q("CREATE TABLE s.copied (id int, v text)"))
    cursor = conn.cursor()
    with cursor.copy(q("COPY s.copied FROM STDIN")) as copy:
        for i in range(MANY):
            copy.write_row((i, f"row\t{i} ü" if i % 7 else None))
    say("copy in", cursor.rowcount, cursor.statusmessage)
    with cursor.copy(q("COPY s.copied FROM STDIN (FORMAT binary)")) as copy:
        copy.set_types(["int4", "text"])
        for i in range(1000):
            copy.write_row((-i, f"binary {i}"))
    say("binary copy in", cursor.rowcount)
    with cursor.copy(q("COPY (SELECT * FROM s.copied ORDER BY id) TO STDOUT")) as copy:
        say("copy out", digest(b"".join(copy)))
    with cursor.copy(q("COPY (SELECT * FROM s.copied ORDER BY id) TO STDOUT (FORMAT csv, HEADER)")) as copy:
        say("csv out", digest(b"".join(copy)))
    with cursor.copy(q("COPY (SELECT * FROM s.copied ORDER BY id LIMIT 3) TO STDOUT (FORMAT binary)")) as copy:
        copy.set_types(["int4", "text"])
        say("binary copy out", list(copy.rows()))
    try:
        with cursor.copy(q("COPY s.copied FROM STDIN")) as copy:
            copy.write("1\tfine\nnot a number\twrong\n")
    except psycopg.Error as error:
        tell("bad data", error)
    try:
        with cursor.copy(q("COPY s.copied FROM STDIN")) as copy:
            copy.write_row((1, "given up"))
            raise KeyError("given up")
    except KeyError:
        say("given up", conn.info.transaction_status.name)
    try:
        with cursor.copy("COPY (SELECT 1 / (3 - g) FROM generate_series(1, 5) g) TO STDOUT") as copy:
            for part in copy:
                say("row before the error", bytes(part))
    except psycopg.Error as error:
        tell("error during copy out", error)
    try:
        with cursor.copy("COPY (SELECT * FROM generate_series(1, 10000000)) TO STDOUT") as copy:
            copy.read()
            raise KeyError("left early")
    except KeyError:
        say("left early", conn.info.transaction_status.name)
    say("copied", conn.execute(q("SELECT count(*), sum(id) FROM s.copied")).fetchone())


def listens(conn):
    with connect(autocommit=True) as other:
        conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(SCHEMA)))
        other.execute("SELECT pg_notify(%s, %s)", (SCHEMA, "from elsewhere ü"))
        conn.execute("SELECT pg_notify(%s, %s)", (SCHEMA, "from myself"))
        other.execute("SELECT pg_notify(%s, %s)", (SCHEMA, ""))
        heard = sorted(n.payload for n in conn.notifies(timeout=20, stop_after=3))
        say("heard", heard)
        with conn.transaction():
            conn.execute("SELECT pg_notify(%s, 'in a transaction')", (SCHEMA,))
            conn.execute("SELECT pg_notify(%s, 'in a transaction')", (SCHEMA,))
        say("heard once", [n.payload for n in conn.notifies(timeout=20, stop_after=1)])
        conn.execute("UNLISTEN *")
        say("listening to", conn.execute("SELECT count(*) FROM pg_listening_channels()").fetchone())


def cancels(conn):
    def cancel(how):
        with connect(autocommit=True) as watcher:
            for _ in poll("the query to be cancelled"):
                if watcher.execute(SLEEPS.format(f"{SCHEMA} {how}")).fetchone()[0]:
                    break
        getattr(conn, how)()

    for how in ("cancel", "cancel_safe"):
        thread = threading.Thread(target=cancel, args=(how,))
        thread.start()
        failing(how, conn, f"SELECT pg_sleep(60) /* {SCHEMA} {how} */")
        thread.join()
        say(f"after {how}", conn.execute("SELECT 1").fetchone())
    try:
        with conn.transaction():
            conn.execute("SET LOCAL statement_timeout = 50")
            conn.execute("SELECT pg_sleep(60)")
    except psycopg.Error as error:
        tell("statement_timeout", error)
    say("after statement_timeout", conn.execute("SHOW statement_timeout").fetchone())


def notices(conn):
    heard = []
    conn.add_notice_handler(lambda d: heard.append((d.severity, d.sqlstate, d.message_primary, d.message_hint)))
    conn.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 'ü'; RAISE WARNING 'mind' USING HINT = 'the gap'; END $$")
    conn.execute("ROLLBACK")
    say("notices", heard)


def big(conn):
    text = "aé" * (BIG // 3)
    say("big text", digest(conn.execute("SELECT %s::text || 'z'", (text,)).fetchone()[0]))
    data = bytes(range(256)) * (BIG // 256)
    for binary in (False, True):
        cursor = conn.execute("SELECT %b::bytea, repeat('x', %s)", (data, BIG), binary=binary)
        say(f"big bytea binary={binary}", *map(digest, cursor.fetchone()))
    rows = conn.execute("SELECT g, md5(g::text) FROM generate_series(1, %s) g", (MANY,)).fetchall()
    say("many rows", len(rows), digest("".join(row[1] for row in rows)))
    say("wide row", len(conn.execute("SELECT " + ", ".join(map(str, range(1000)))).fetchone()))


def sessions(conn):
    conn.execute("SET work_mem = '7MB'")
    say("set", [conn.execute("SHOW work_mem").fetchone()[0] for _ in range(3)])
    conn.execute("RESET work_mem")
    conn.execute("SET TIME ZONE 'Asia/Tokyo'")
    say("time zone", conn.info.timezone, conn.execute("SELECT '2024-01-01 00:00Z'::timestamptz::text").fetchone())
    conn.execute("RESET TIME ZONE")
    say("lock", conn.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (SCHEMA,)).fetchone())
    with connect(autocommit=True) as other:
        say("locked", other.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (SCHEMA,)).fetchone())
    say("unlock", conn.execute("SELECT pg_advisory_unlock(hashtext(%s))", (SCHEMA,)).fetchone())
    with conn.transaction():
        conn.execute("CREATE TEMP TABLE short (id int) ON COMMIT DROP")
        conn.execute("INSERT INTO short VALUES (1)")
        say("temporary table", conn.execute("SELECT count(*) FROM short").fetchone())
    if not POOLED:
        conn.execute("CREATE TEMP TABLE longer (id int)")
        conn.execute("INSERT INTO longer VALUES (1), (2)")
        say("longer table", conn.execute("SELECT count(*) FROM longer").fetchone())
        conn.execute("DROP TABLE longer")
        conn.execute("DISCARD ALL")


def connections():
    say("one after the other", [connect_once(i) for i in range(20)])
    with ThreadPoolExecutor(8) as pool:
        say("side by side", list(pool.map(connect_once, range(40))))


def connect_once(number):
    with connect() as conn:
        return conn.execute("SELECT %s::int", (number,)).fetchone()[0]


def main():
    with connect(autocommit=True) as conn:
        conn.execute(q(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
        conn.execute(q(f"CREATE SCHEMA {SCHEMA}"))
        sections = [parameters, types, errors, transactions, two_phases, prepared, cursors, pipelines,
                    copies, cancels, notices, big, sessions]
        if not POOLED:
            sections += [changed_plan, listens]
        for section in sections:
            print(f"-- {section.__name__}")
            section(conn)
        connections()
        conn.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    say("done")


main()
