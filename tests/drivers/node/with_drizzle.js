// drizzle-orm over node-postgres against a server: a transcript that is the same whatever stands between.
'use strict'

const { asc, count, eq, gt, relations, sql, sum } = require('drizzle-orm')
const { drizzle } = require('drizzle-orm/node-postgres')
const pg = require('drizzle-orm/pg-core')
const { Pool } = require('pg')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')
const { buffer } = require('node:stream/consumers')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { url, schema, q, say, digest, failing, until, sleeps, cancel, run, BIG, MANY } = require('./common.js')

const own = pg.pgSchema(schema)
const mood = own.enum('mood', ['sad', 'glad'])
const bytea = pg.customType({ dataType: () => 'bytea' })
const authors = own.table('authors', {
  id: pg.integer().primaryKey(),
  name: pg.text().notNull().unique(),
  mood: mood(),
})
const books = own.table('books', {
  id: pg.integer().primaryKey().generatedAlwaysAsIdentity(),
  title: pg.text().notNull(),
  author: pg.integer().notNull().references(() => authors.id),
})
const values = own.table('values', {
  id: pg.integer().primaryKey(),
  n: pg.numeric(),
  t: pg.text(),
  y: bytea(),
  w: pg.timestamp({ withTimezone: true }),
  j: pg.jsonb(),
  a: pg.integer().array(),
  b: pg.bigint({ mode: 'bigint' }),
  x: pg.text(),
})
const authorsRelations = relations(authors, ({ many }) => ({ books: many(books) }))
const booksRelations = relations(books, ({ one }) => ({
  writer: one(authors, { fields: [books.author], references: [authors.id] }),
}))

async function tables(db) {
  await db.execute(sql.raw(q(`
    CREATE TYPE s.mood AS ENUM ('sad', 'glad');
    CREATE TABLE s.authors (id int PRIMARY KEY, name text NOT NULL UNIQUE, mood s.mood);
    CREATE TABLE s.books (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL,
      author int NOT NULL REFERENCES s.authors);
    CREATE TABLE s.values (id int PRIMARY KEY, n numeric, t text, y bytea, w timestamptz, j jsonb, a int[], b bigint, x text);
    CREATE TABLE s.copied (id int, v text)`)))
}

async function types(db) {
  await db.insert(values).values({
    id: 1, n: '12345678901234567890.0987654321', t: 'Zürich 東京 🐘', y: Buffer.from([...Array(256).keys()]),
    w: new Date('2024-02-29T23:59:59.123Z'), j: { a: [1, null, 'é'] }, a: [1, 2, 3], b: 2n ** 62n, x: null,
  })
  const [row] = await db.select().from(values).where(eq(values.id, 1))
  say('row', { ...row, b: String(row.b), y: row.y.toString('hex') })
  const [both] = await db.insert(values).values({ id: 1, t: 'again' })
    .onConflictDoUpdate({ target: values.id, set: { t: 'changed' } }).returning({ id: values.id, t: values.t })
  say('upsert', both)
}

async function queries(db) {
  await db.insert(authors).values([{ id: 1, name: 'Ada', mood: 'glad' }, { id: 2, name: 'Bo' }])
  const made = await db.insert(books).values([...Array(50).keys()].map((i) => ({ title: `Ä${i}`, author: 1 + i % 2 }))).returning()
  say('returned', made.length, made[49])
  say('join', await db.select({ name: authors.name, books: count(books.id) }).from(authors)
    .leftJoin(books, eq(books.author, authors.id)).groupBy(authors.name).orderBy(asc(authors.name)))
  say('relations', await db.query.authors.findMany({
    with: { books: { limit: 2, orderBy: asc(books.id) } }, orderBy: asc(authors.id),
  }))
  const byId = db.select({ title: books.title }).from(books).where(eq(books.id, sql.placeholder('id'))).prepare('by_id')
  const got = []
  for (let id = 1; id <= 15; id++) got.push((await byId.execute({ id }))[0].title)
  say('prepared', got)
  say('update', (await db.update(books).set({ title: 'new' }).where(gt(books.id, 45))).rowCount)
  say('delete', (await db.delete(books).where(gt(books.id, 48)).returning({ id: books.id })).length)
  say('sum', await db.select({ v: sum(books.id) }).from(books))
}

async function transactions(db) {
  await db.transaction(async (tx) => {
    await tx.insert(authors).values({ id: 3, name: 'Cy' })
    await failing('in a savepoint', tx.transaction((inner) => inner.insert(authors).values({ id: 4, name: 'Bo' })))
    await tx.insert(authors).values({ id: 5, name: 'Di' })
  }, { isolationLevel: 'repeatable read' })
  try {
    await db.transaction(async (tx) => {
      await tx.insert(authors).values({ id: 6, name: 'Ed' })
      tx.rollback()
    })
  } catch (error) {
    say('rolled back', error.constructor.name)
  }
  await failing('error in a transaction', db.transaction(async (tx) => {
    await tx.insert(authors).values({ id: 7, name: 'Fay' })
    await failing('first', tx.execute(sql`SELECT 1 / ${0}::int`))
    await tx.select().from(authors)
  }))
  await failing('read only', db.transaction((tx) => tx.delete(books), { accessMode: 'read only' }))
  say('committed', await db.select({ name: authors.name }).from(authors).orderBy(asc(authors.id)))
}

async function errors(db) {
  await failing('unique', db.insert(authors).values({ id: 1, name: 'Ada' }))
  await failing('reference', db.insert(books).values({ title: 'lost', author: 99 }))
  await failing('syntax', db.execute(sql`SELECT FROM WHERE`))
  say('after the errors', (await db.execute(sql`SELECT 1 AS v`)).rows)
}

async function copies(db) {
  const client = await db.$client.connect()
  const lines = function* () {
    for (let i = 0; i < MANY; i++) yield `${i}\trow ${i}\n`
  }
  await pipeline(Readable.from(lines()), client.query(copyFrom(q('COPY s.copied FROM STDIN'))))
  say('copy out', digest(await buffer(client.query(copyTo(q('COPY s.copied TO STDOUT'))))))
  client.release()
}

async function cancels(db) {
  const client = await db.$client.connect()
  const own = drizzle(client)
  const asleep = failing('cancelled', own.execute(sql.raw(`SELECT pg_sleep(60) /* ${schema} cancelled */`)))
  await until('the query to be cancelled', async () => (await db.execute(sql.raw(sleeps(`${schema} cancelled`)))).rows[0].n > 0)
  await cancel(client)
  await asleep
  await failing('statement_timeout', own.transaction(async (tx) => {
    await tx.execute(sql`SET LOCAL statement_timeout = 50`)
    await tx.execute(sql`SELECT pg_sleep(60)`)
  }))
  const heard = []
  client.on('notice', (notice) => heard.push([notice.severity, notice.message]))
  await own.execute(sql.raw("DO $$ BEGIN RAISE NOTICE 'hello'; END $$"))
  say('notices', heard)
  client.release()
}

async function big(db) {
  const text = 'aé'.repeat(Math.floor(BIG / 3))
  say('big text', digest((await db.execute(sql`SELECT ${text}::text AS v`)).rows[0].v))
  const { rows } = await db.execute(sql`SELECT g, md5(g::text) FROM generate_series(1, ${MANY}::int) g`)
  say('many rows', rows.length, digest(rows.map((row) => row.md5).join('')))
  say('side by side', await Promise.all([...Array(40).keys()].map((i) => db.execute(sql`SELECT ${i}::int * 2 AS v`).then((r) => r.rows[0].v))))
}

run(async () => {
  const pool = new Pool({ connectionString: url, max: 4 })
  const db = drizzle(pool, { schema: { authors, books, authorsRelations, booksRelations } })
  await db.execute(sql.raw(`DROP SCHEMA IF EXISTS ${schema} CASCADE`))
  await db.execute(sql.raw(`CREATE SCHEMA ${schema}`))
  for (const section of [tables, types, queries, transactions, errors, copies, cancels, big]) {
    console.log(`-- ${section.name}`)
    await section(db)
  }
  await db.execute(sql.raw(`DROP SCHEMA ${schema} CASCADE`))
  await pool.end()
})
