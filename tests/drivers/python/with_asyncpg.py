"""asyncpg against a server: a transcript that is the same whatever stands between."""

import asyncio
import datetime
import decimal
import json
import uuid

import asyncpg

from common import BIG, DEADLINE, MANY, SLEEPS, arguments, digest, poll, say

URL, SCHEMA, POOLED = arguments()
UTC = datetime.timezone.utc


def q(text):
    """The statement with `s.` standing for the schema."""
    return text.replace("s.", f"{SCHEMA}.")


async def failing(what, awaitable):
    """Awaits what has to fail, and tells how."""
    try:
        await awaitable
        raise AssertionError(f"{what} did not fail")
    except asyncpg.PostgresError as error:
        tell(what, error)


def tell(what, error):
    say(what, type(error).__name__, error.sqlstate, error.severity, error.message, error.detail,
        error.constraint_name, error.table_name, error.position)


async def parameters(conn):
    settings = conn.get_settings()
    for name in ("server_version", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes"):
        say(f"parameter {name}", getattr(settings, name))
    say("version", conn.get_server_version())


async def types(conn):
    await conn.execute(q("CREATE TYPE s.mood AS ENUM ('sad', 'glad')"))
    await conn.execute(q("CREATE TYPE s.pair AS (a int, b text)"))
    await conn.execute(q("""CREATE TABLE s.types (
        i int, b bigint, n numeric, f float8, t text, y bytea, o boolean, w timestamptz, d date,
        v interval, j jsonb, u uuid, a int[], ta text[], r int4range, e s.mood, p s.pair, pa s.pair[], x text)"""))
    row = (-42, 2**62, decimal.Decimal("12345678901234567890.0987654321"), 0.1, "Zürich 東京 🐘 'q' \\ \n",
           bytes(range(256)), True, datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, UTC),
           datetime.date(1999, 12, 31), datetime.timedelta(days=3, seconds=4), '{"a": [1, null, "é"]}',
           uuid.UUID(int=7), [1, 2, None], ["a", 'b"c', None], asyncpg.Range(1, 5), "glad", (1, "one"),
           [(2, "two"), None], None)
    marks = ", ".join(f"${i + 1}" for i in range(len(row)))
    await conn.execute(q(f"INSERT INTO s.types VALUES ({marks})"), *row)
    got = await conn.fetchrow(q("SELECT * FROM s.types"))
    for column, value in got.items():
        say(f"type {column}", repr(value.astimezone(UTC) if isinstance(value, datetime.datetime) else value))
    async with conn.transaction():
        await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        say("codec", await conn.fetchval("SELECT $1::jsonb || '{\"b\": 2}'", {"a": [True]}))
    await conn.reset_type_codec("jsonb", schema="pg_catalog")
    statement = await conn.prepare(q("SELECT i, t, e FROM s.types WHERE i = $1"))
    say("attributes", [(a.name, a.type.name) for a in statement.get_attributes()])
    say("parameter types", [p.name for p in statement.get_parameters()])
    await failing("wrong type", conn.fetchval("SELECT $1::text::int", "x"))


async def errors(conn):
    await conn.execute(q("CREATE TABLE s.errors (id int PRIMARY KEY, v int NOT NULL CHECK (v > 0))"))
    say("insert", await conn.execute(q("INSERT INTO s.errors VALUES (1, 1), (2, 2)")))
    await failing("unique", conn.execute(q("INSERT INTO s.errors VALUES ($1, 1)"), 1))
    await failing("check", conn.execute(q("INSERT INTO s.errors VALUES ($1, $2)"), 3, -1))
    await failing("syntax", conn.execute("SELECT FROM WHERE"))
    await failing("syntax, prepared", conn.fetch("SELECT $1 FROM WHERE", 1))
    await failing("no such table", conn.fetch(q("SELECT * FROM s.nothing")))
    await failing("division", conn.fetch("SELECT 1 / $1::int", 0))
    await failing("division again", conn.fetch("SELECT 1 / $1::int", 0))
    await failing("a later row", conn.fetch("SELECT 1 / (3 - g) FROM generate_series(1, $1) g", 5))
    await failing("the second of two", conn.execute("SELECT 1; SELECT 1/0; SELECT 3"))
    say("still there", await conn.fetchval(q("SELECT count(*) FROM s.errors")))


async def transactions(conn):
    await conn.execute(q("CREATE TABLE s.tx (id int PRIMARY KEY)"))
    count = q("SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM s.tx")
    async with conn.transaction():
        await conn.execute(q("INSERT INTO s.tx VALUES ($1)"), 1)
        say("in a transaction", conn.is_in_transaction())
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute(q("INSERT INTO s.tx VALUES ($1)"), 2)
    await failing("error in a transaction", conn.fetch("SELECT 1 / $1::int", 0))
    await failing("after the error", conn.fetch("SELECT 1"))
    await failing("after the error, prepared", conn.fetch("SELECT 1 / $1::int", 1))
    await transaction.rollback()
    say("rolled back", await conn.fetchval(count), conn.is_in_transaction())
    async with conn.transaction():
        await conn.execute(q("INSERT INTO s.tx VALUES ($1)"), 3)
        try:
            async with conn.transaction():
                await conn.execute(q("INSERT INTO s.tx VALUES ($1)"), 4)
                await conn.execute(q("INSERT INTO s.tx VALUES ($1)"), 1)
        except asyncpg.PostgresError as error:
            tell("in a savepoint", error)
        async with conn.transaction():
            await conn.execute(q("INSERT INTO s.tx VALUES ($1)"), 5)
    say("savepoints", await conn.fetchval(count))
    async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
        say("serializable", await conn.fetchval("SHOW transaction_isolation"))
        await failing("read only", conn.execute(q("INSERT INTO s.tx VALUES ($1)"), 6))


async def prepared(conn):
    await conn.execute(q("CREATE TABLE s.prepared (id int, v text)"))
    got = []
    for i in range(20):
        await conn.execute(q("INSERT INTO s.prepared VALUES ($1, $2)"), i, f"v{i}")
        got.append(await conn.fetchval(q("SELECT v FROM s.prepared WHERE id = $1"), i))
    say("cached", got)
    statement = await conn.prepare(q("SELECT id + $1 FROM s.prepared WHERE id = $2"))
    say("prepared", [await statement.fetchval(i, i) for i in range(12)])
    say("interleaved", [await conn.fetchval(f"SELECT {i % 3} + $1::int", i) for i in range(12)])
    # More statements than the cache holds, so that the client closes the oldest.
    say("more than are kept", sum([await conn.fetchval(f"SELECT {i} + $1::int", 1) for i in range(150)]))
    await conn.executemany(q("INSERT INTO s.prepared VALUES ($1, $2)"), [(100 + i, "m") for i in range(1000)])
    say("executemany", await conn.fetchval(q("SELECT count(*) FROM s.prepared")))
    rows = await conn.fetchmany(q("INSERT INTO s.prepared VALUES ($1, 'r') RETURNING id"), [(1,), (2,), (3,)])
    say("fetchmany", [row[0] for row in rows])
    await failing("error in executemany", conn.executemany("SELECT 1 / $1::int", [(1,), (0,), (1,)]))
    say("statement without rows", await conn.fetch("SELECT $1::int WHERE false", 1))
    say("nothing", await conn.fetchval("SELECT $1::text", None))


async def cursors(conn):
    async with conn.transaction():
        total = 0
        async for row in conn.cursor("SELECT g FROM generate_series(1, $1) g", 1000, prefetch=50):
            total += row[0]
        say("cursor", total)
        first = await conn.cursor("SELECT g FROM generate_series(1, $1) g", 100)
        second = await conn.cursor("SELECT -g FROM generate_series(1, 100) g")
        got = []
        for _ in range(3):
            got += [[row[0] for row in await first.fetch(2)], (await second.fetchrow())[0]]
        say("two cursors", got)
        say("forward", await first.forward(10), (await first.fetchrow())[0], len(await first.fetch(1000)))


async def copies(conn):
    await conn.execute(q("CREATE TABLE s.copied (id int, v text)"))
    records = [(i, f"row\t{i} ü" if i % 7 else None) for i in range(MANY)]
    say("records", await conn.copy_records_to_table("copied", records=records, schema_name=SCHEMA))

    async def source():
        for i in range(1000):
            yield f"-{i},csv {i}\n".encode()

    say("csv in", await conn.copy_to_table("copied", source=source(), schema_name=SCHEMA, format="csv"))
    parts = []

    async def sink(part):
        parts.append(part)

    ordered = q("SELECT * FROM s.copied ORDER BY id, v")
    for form in ("text", "csv", "binary"):
        parts.clear()
        status = await conn.copy_from_query(ordered, output=sink, format=form)
        say(f"{form} out", status, digest(b"".join(parts)))
    parts.clear()
    say("table out", await conn.copy_from_table("copied", schema_name=SCHEMA, columns=["id"], output=sink))

    async def wrong():
        yield b"1,fine\nnot a number,wrong\n"

    await failing("bad data", conn.copy_to_table("copied", source=wrong(), schema_name=SCHEMA, format="csv"))

    async def given_up():
        yield b"1,fine\n"
        raise KeyError("given up")

    try:
        await conn.copy_to_table("copied", source=given_up(), schema_name=SCHEMA, format="csv")
    except KeyError as error:
        say("given up", error)
    await failing("error during copy out", conn.copy_from_query("SELECT 1 / (3 - g) FROM generate_series(1, 5) g", output=sink))
    say("copied", tuple(await conn.fetchrow(q("SELECT count(*), sum(id) FROM s.copied"))))


async def listens(conn):
    heard = asyncio.Queue()

    def listener(_connection, _pid, channel, payload):
        heard.put_nowait((channel, payload))

    await conn.add_listener(SCHEMA, listener)
    other = await asyncpg.connect(URL)
    await other.execute("SELECT pg_notify($1, $2)", SCHEMA, "from elsewhere ü")
    say("heard while idle", await asyncio.wait_for(heard.get(), DEADLINE))
    await conn.execute("SELECT pg_notify($1, $2)", SCHEMA, "from myself")
    say("heard", await asyncio.wait_for(heard.get(), DEADLINE))
    await other.close()
    await conn.remove_listener(SCHEMA, listener)
    say("listening to", await conn.fetchval("SELECT count(*) FROM pg_listening_channels()"))


async def asleep(what, watcher):
    for _ in poll(what):
        if await watcher.fetchval(SLEEPS.format(f"{SCHEMA} {what}")):
            return
        await asyncio.sleep(0.01)


async def cancels(conn):
    watcher = await asyncpg.connect(URL)
    task = asyncio.create_task(conn.fetch(f"SELECT pg_sleep(60) /* {SCHEMA} cancelled */"))
    await asleep("cancelled", watcher)
    task.cancel()
    try:
        await task
        raise AssertionError("cancelled did not fail")
    except asyncio.CancelledError:
        say("cancelled")
    say("after it", await conn.fetchval("SELECT $1::int", 1))
    try:
        await conn.fetch(f"SELECT pg_sleep(60) /* {SCHEMA} timed out */", timeout=0.1)
        raise AssertionError("timed out did not fail")
    except asyncio.TimeoutError:
        say("timed out")
    say("after it", await conn.fetchval("SELECT $1::int", 1))
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("SET LOCAL statement_timeout = 50")
    await failing("statement_timeout", conn.fetch("SELECT pg_sleep(60)"))
    await transaction.rollback()
    say("after statement_timeout", await conn.fetchval("SHOW statement_timeout"))
    await watcher.close()


async def notices(conn):
    heard = []
    conn.add_log_listener(lambda _c, m: heard.append((m.severity, m.sqlstate, m.message, m.hint)))
    await conn.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 'ü'; RAISE WARNING 'mind' USING HINT = 'the gap'; END $$")
    for _ in poll("the notices"):
        if len(heard) >= 2:
            break
        await asyncio.sleep(0.01)
    say("notices", heard)


async def big(conn):
    text = "aé" * (BIG // 3)
    say("big text", digest(await conn.fetchval("SELECT $1::text || 'z'", text)))
    data = bytes(range(256)) * (BIG // 256)
    say("big bytea", *map(digest, await conn.fetchrow("SELECT $1::bytea, repeat('x', $2)", data, BIG)))
    rows = await conn.fetch("SELECT g, md5(g::text) FROM generate_series(1, $1) g", MANY)
    say("many rows", len(rows), digest("".join(row[1] for row in rows)))


async def sessions(conn):
    await conn.execute("SET work_mem = '7MB'")
    say("set", [await conn.fetchval("SHOW work_mem") for _ in range(3)])
    await conn.execute("RESET work_mem")
    say("lock", await conn.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", SCHEMA))
    say("unlock", await conn.fetchval("SELECT pg_advisory_unlock(hashtext($1))", SCHEMA))
    async with conn.transaction():
        await conn.execute("CREATE TEMP TABLE short (id int) ON COMMIT DROP")
        await conn.execute("INSERT INTO short VALUES ($1)", 1)
        say("temporary table", await conn.fetchval("SELECT count(*) FROM short"))
    if not POOLED:
        await conn.execute("CREATE TEMP TABLE longer (id int)")
        await conn.execute("INSERT INTO longer VALUES ($1), (2)", 1)
        say("longer table", await conn.fetchval("SELECT count(*) FROM longer"))
        await conn.execute("DROP TABLE longer")


async def pools():
    async with asyncpg.create_pool(URL, min_size=2, max_size=4) as pool:
        async def work(number):
            async with pool.acquire() as conn, conn.transaction():
                await conn.execute(q("INSERT INTO s.pooled VALUES ($1)"), number)
                return await conn.fetchval("SELECT $1::int * 2", number)

        await pool.execute(q("CREATE TABLE s.pooled (id int)"))
        say("pool", await asyncio.gather(*(work(i) for i in range(50))))
        say("pooled", tuple(await pool.fetchrow(q("SELECT count(*), sum(id) FROM s.pooled"))))


async def main():
    conn = await asyncpg.connect(URL)
    await conn.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    await conn.execute(f"CREATE SCHEMA {SCHEMA}")
    sections = [parameters, types, errors, transactions, prepared, cursors, copies, cancels, notices, big, sessions]
    if not POOLED:
        sections.append(listens)
    for section in sections:
        print(f"-- {section.__name__}")
        await section(conn)
    await pools()
    await conn.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    await conn.close()
    say("done")


asyncio.run(main())
