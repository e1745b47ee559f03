"""SQLAlchemy 2 over psycopg against a server, core and ORM: a transcript that is the same whatever stands between."""

import datetime
import decimal
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg

from common import BIG, MANY, SLEEPS, arguments, digest, poll, say

URL, SCHEMA, POOLED = arguments()
UTC = datetime.timezone.utc
DIALECT_URL = URL.replace("postgresql://", "postgres://").replace("postgres://", "postgresql+psycopg://", 1)
metadata = sa.MetaData(schema=SCHEMA)

types_table = sa.Table(
    "types", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("n", sa.Numeric(30, 10)),
    sa.Column("t", sa.Text),
    sa.Column("y", sa.LargeBinary),
    sa.Column("w", sa.DateTime(timezone=True)),
    sa.Column("j", pg.JSONB),
    sa.Column("a", pg.ARRAY(sa.Integer)),
    sa.Column("e", sa.Enum("sad", "glad", name="mood")),
    sa.Column("i", sa.Interval),
    sa.Column("x", sa.Text))


class Base(orm.DeclarativeBase):
    metadata = metadata


class Author(Base):
    __tablename__ = "author"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    version: orm.Mapped[int] = orm.mapped_column(default=1)
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="author", cascade="all, delete-orphan", order_by="Book.id")


class Book(Base):
    __tablename__ = "book"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(f"{SCHEMA}.author.id"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


def tell(what, error):
    diag = error.orig.diag
    say(what, type(error).__name__, error.orig.sqlstate, diag.message_primary, diag.message_detail, diag.constraint_name)


def failing(what, run):
    try:
        run()
        raise AssertionError(f"{what} did not fail")
    except sa.exc.DBAPIError as error:
        tell(what, error)


def types(engine):
    row = dict(id=1, n=decimal.Decimal("12345678901234567890.0987654321"), t="Zürich 東京 🐘 'q' \\ \n", y=bytes(range(256)),
               w=datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, UTC), j={"a": [1, None, "é"]}, a=[1, 2, None],
               e="glad", i=datetime.timedelta(days=3, seconds=4), x=None)
    with engine.begin() as conn:
        conn.execute(types_table.insert(), [row, dict.fromkeys(row) | {"id": 2}])
        for got in conn.execute(sa.select(types_table).order_by(types_table.c.id)).mappings():
            for column, value in got.items():
                say(f"type {column}", repr(value.astimezone(UTC) if isinstance(value, datetime.datetime) else value))
        say("json path", conn.scalar(sa.select(types_table.c.j["a"][2].astext).where(types_table.c.id == 1)))
        say("upsert", conn.execute(pg.insert(types_table).values(id=2, t="new").on_conflict_do_update(
            index_elements=["id"], set_={"t": "changed"}).returning(types_table.c.t)).scalar_one())


def core(engine):
    squares = sa.Table("squares", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", sa.Integer))
    squares.create(engine)
    with engine.begin() as conn:
        got = conn.execute(squares.insert().returning(squares.c.id, sort_by_parameter_order=True),
                           [{"id": i, "v": i * i} for i in range(3000)]).all()
        say("many values", len(got), got[-1])
        say("update", conn.execute(squares.update().where(squares.c.id < 10).values(v=squares.c.v + 1)).rowcount)
        say("delete", conn.execute(squares.delete().where(squares.c.id >= 2990)).rowcount)
    by_id = sa.select(squares.c.v).where(squares.c.id == sa.bindparam("id"))
    with engine.connect() as conn:
        say("reused", [conn.scalar(by_id, {"id": i}) for i in range(15)])
        streamed = conn.execution_options(yield_per=100).execute(sa.select(squares.c.v).order_by(squares.c.id))
        say("server-side cursor", [sum(row.v for row in part) for part in streamed.partitions()][:3])
    with engine.connect() as conn:
        many = conn.exec_driver_sql("SELECT g, md5(g::text) FROM generate_series(1, %s) g", (MANY,)).all()
        say("many rows", len(many), digest("".join(row[1] for row in many)))
        say("big", digest(conn.scalar(sa.select(sa.cast("aé" * (BIG // 3), sa.Text)))))
        say("big bytes", digest(conn.scalar(sa.select(sa.cast(bytes(range(256)) * (BIG // 256), sa.LargeBinary)))))
    inspector = sa.inspect(engine)
    say("tables", sorted(inspector.get_table_names(schema=SCHEMA)))
    say("columns", [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns("types", schema=SCHEMA)])
    say("keys", inspector.get_foreign_keys("book", schema=SCHEMA)[0]["referred_columns"],
        inspector.get_unique_constraints("author", schema=SCHEMA)[0]["column_names"])


def objects(engine):
    make = orm.sessionmaker(engine)
    with make.begin() as session:
        session.add_all([Author(id=1, name="Ada", books=[Book(id=i, title=f"Ä{i}") for i in range(1, 4)]),
                         Author(id=2, name="Bo", books=[Book(id=9, title="nine")])])
    with make() as session:
        authors = session.scalars(sa.select(Author).options(orm.selectinload(Author.books)).order_by(Author.id)).all()
        say("loaded", [(a.name, [b.title for b in a.books]) for a in authors])
        say("lazy", session.get(Book, 9).author.name)
        authors[0].books.pop()
        authors[1].version += 1
        session.commit()
        say("after a change", session.scalar(sa.select(sa.func.count(Book.id))), authors[1].version)
        joined = sa.select(Author.name, sa.func.count(Book.id)).join(Book).group_by(Author.name).order_by(Author.name)
        say("grouped", [tuple(row) for row in session.execute(joined)])
        session.add(Author(id=3, name="Ada"))
        failing("unique", session.flush)
        say("session still active", session.is_active)
        session.rollback()
        with session.begin_nested():
            session.add(Author(id=4, name="Cy"))
        try:
            with session.begin_nested():
                session.add(Author(id=5, name="Bo"))
        except sa.exc.IntegrityError as error:
            tell("in a savepoint", error)
        session.commit()
        say("savepoints", session.scalars(sa.select(Author.name).order_by(Author.id)).all())
        say("locked", session.scalars(sa.select(Author.id).order_by(Author.id).with_for_update(skip_locked=True)).all())
        say("streamed", sum(len(part) for part in session.scalars(
            sa.select(Book).execution_options(yield_per=2)).partitions()))


def errors(engine):
    with engine.connect() as conn:
        for what, statement in (("syntax", "SELECT FROM WHERE"), ("no such table", f"SELECT * FROM {SCHEMA}.nothing"),
                                ("division", "SELECT 1/0")):
            failing(what, lambda s=statement: conn.execute(sa.text(s)))
            failing(f"{what}, and after", lambda: conn.execute(sa.text("SELECT 1")))
            conn.rollback()
            say(f"{what}, rolled back", conn.scalar(sa.text("SELECT 1")))
            conn.rollback()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        failing("autocommit", lambda: conn.execute(sa.text("SELECT 1/0")))
        say("autocommit goes on", conn.scalar(sa.text("SELECT 1")))
    with engine.connect().execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=True) as conn:
        say("serializable", conn.scalar(sa.text("SHOW transaction_isolation")))
        failing("read only", lambda: conn.execute(sa.text(f"DELETE FROM {SCHEMA}.book")))


def copies(engine):
    with engine.begin() as conn:
        conn.execute(sa.text(f"CREATE TABLE {SCHEMA}.copied (id int, v text)"))
        cursor = conn.connection.cursor()
        with cursor.copy(f"COPY {SCHEMA}.copied FROM STDIN") as copy:
            for i in range(MANY):
                copy.write_row((i, f"row {i}"))
        with cursor.copy(f"COPY {SCHEMA}.copied TO STDOUT") as copy:
            say("copy", cursor.rowcount, digest(b"".join(copy)))


def cancels(engine):
    mine = engine.raw_connection()

    def cancel():
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
            for _ in poll("the query to be cancelled"):
                if watcher.exec_driver_sql(SLEEPS.format(f"{SCHEMA} cancelled")).scalar():
                    break
        mine.driver_connection.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    try:
        mine.cursor().execute(f"SELECT pg_sleep(60) /* {SCHEMA} cancelled */")
        raise AssertionError("cancelled did not fail")
    except psycopg.Error as error:
        say("cancelled", type(error).__name__, error.sqlstate)
    thread.join()
    mine.rollback()
    mine.close()
    with engine.connect() as conn:
        conn.execute(sa.text("SET LOCAL statement_timeout = 50"))
        failing("statement_timeout", lambda: conn.execute(sa.text("SELECT pg_sleep(60)")))
        conn.rollback()
        heard = []
        conn.connection.driver_connection.add_notice_handler(lambda d: heard.append((d.severity, d.message_primary)))
        conn.execute(sa.text("DO $$ BEGIN RAISE NOTICE 'hello'; END $$"))
        say("notices", heard)


def pools(engine):
    def work(number):
        with engine.begin() as conn:
            return conn.scalar(sa.text("SELECT :n * 2"), {"n": number})

    with ThreadPoolExecutor(8) as threads:
        say("pool", list(threads.map(work, range(40))))
    fresh = sa.create_engine(DIALECT_URL, poolclass=sa.pool.NullPool)

    def once(number):
        with fresh.connect() as conn:
            return conn.scalar(sa.text("SELECT :n * 2"), {"n": number})

    with ThreadPoolExecutor(4) as threads:
        say("no pool", list(threads.map(once, range(12))))


def main():
    engine = sa.create_engine(DIALECT_URL, pool_size=3, max_overflow=1, pool_pre_ping=True)
    with engine.begin() as conn:
        conn.execute(sa.text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
        conn.execute(sa.schema.CreateSchema(SCHEMA))
    metadata.create_all(engine)
    metadata.create_all(engine)
    for section in (types, core, objects, errors, copies, cancels, pools):
        print(f"-- {section.__name__}")
        section(engine)
    metadata.drop_all(engine)
    with engine.begin() as conn:
        conn.execute(sa.schema.DropSchema(SCHEMA, cascade=True))
    engine.dispose()
    say("done")


main()
