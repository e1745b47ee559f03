// node-postgres against a server: a transcript that is the same whatever stands between.
'use strict'

const { once } = require('node:events')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { buffer } = require('node:stream/consumers')
const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')
const { url, schema, pooled, q, say, digest, failing, until, sleeps, cancel, run, BIG, MANY } = require('./common.js')

async function connect() {
  const client = new Client({ connectionString: url })
  await client.connect()
  return client
}

async function types(client) {
  await client.query(q(`CREATE TABLE s.types (
    i int, b bigint, n numeric, f float8, t text, y bytea, o boolean, w timestamptz, d date,
    j jsonb, u uuid, a int[], ta text[], x text)`))
  const row = [-42, '4611686018427387904', '12345678901234567890.0987654321', 0.1, 'Zürich 東京 🐘 \'q\' \\ \n',
    Buffer.from([...Array(256).keys()]), true, new Date('2024-02-29T23:59:59.123Z'), '1999-12-31',
    { a: [1, null, 'é'] }, '00000000-0000-0000-0000-000000000007', [1, 2, null], ['a', 'b"c', null], null]
  const marks = row.map((_, i) => `$${i + 1}`).join(', ')
  await client.query(q(`INSERT INTO s.types VALUES (${marks})`), row)
  for (const binary of [false, true]) {
    // The binary protocol of this client knows few types; the others it is not asked for.
    const columns = binary ? 'i, b, f, o, t, x' : '*, d::text AS d'
    const result = await client.query({ text: q(`SELECT ${columns} FROM s.types`), binary })
    for (const [column, value] of Object.entries(result.rows[0])) {
      say(`type ${column} binary=${binary}`, Buffer.isBuffer(value) ? value.toString('hex') : value)
    }
  }
  const arrays = await client.query({ text: q('SELECT i, a FROM s.types'), rowMode: 'array' })
  say('array mode', arrays.rows, arrays.command, arrays.rowCount, arrays.fields.map((f) => [f.name, f.dataTypeID]))
}

async function errors(client) {
  await client.query(q('CREATE TABLE s.errors (id int PRIMARY KEY, v int NOT NULL CHECK (v > 0))'))
  await client.query(q('INSERT INTO s.errors VALUES (1, 1), (2, 2)'))
  await failing('unique', client.query(q('INSERT INTO s.errors VALUES ($1, 1)'), [1]))
  await failing('check', client.query(q('INSERT INTO s.errors VALUES ($1, $2)'), [3, -1]))
  await failing('syntax', client.query('SELECT FROM WHERE'))
  await failing('syntax, with parameters', client.query('SELECT $1 FROM WHERE', [1]))
  await failing('no such table', client.query(q('SELECT * FROM s.nothing')))
  await failing('division', client.query('SELECT 1 / $1::int', [0]))
  await failing('the second of two', client.query('SELECT 1; SELECT 1/0; SELECT 3'))
  await failing('named', client.query({ name: 'bad', text: 'SELECT 1 / $1::int AS v', values: [0] }))
  say('named, and then', (await client.query({ name: 'bad', text: 'SELECT 1 / $1::int AS v', values: [1] })).rows)
  await failing('named, does not parse', client.query({ name: 'worse', text: 'SELECT FROM WHERE', values: [] }))
  // The server's message has the statement's name, which a pool of connections has to choose itself.
  if (!pooled) await failing('named, too few values', client.query({ name: 'few', text: 'SELECT $1::int + $2::int', values: [1] }))
  // Sent without waiting, so that an error is followed by queries that are already queued.
  const queued = [client.query('SELECT 1 AS v'), client.query('SELECT 1/0'), client.query('SELECT $1::int AS v', [3])]
  say('queued', (await Promise.allSettled(queued)).map((r) => r.value?.rows ?? r.reason.code))
}

async function transactions(client) {
  await client.query(q('CREATE TABLE s.tx (id int PRIMARY KEY)'))
  const ids = async () => (await client.query(q('SELECT id FROM s.tx ORDER BY id'))).rows.map((r) => r.id)
  await client.query('BEGIN')
  await client.query(q('INSERT INTO s.tx VALUES ($1)'), [1])
  await client.query('COMMIT')
  await client.query('BEGIN')
  await client.query(q('INSERT INTO s.tx VALUES ($1)'), [2])
  await failing('error in a transaction', client.query('SELECT 1/0'))
  await failing('after the error', client.query('SELECT $1::int', [1]))
  say('commit after the error', (await client.query('COMMIT')).command)
  say('rolled back', await ids())
  await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE')
  await client.query(q('INSERT INTO s.tx VALUES ($1)'), [3])
  await client.query('SAVEPOINT one')
  await failing('in a savepoint', client.query(q('INSERT INTO s.tx VALUES ($1)'), [1]))
  await client.query('ROLLBACK TO SAVEPOINT one')
  await client.query(q('INSERT INTO s.tx VALUES ($1)'), [5])
  await client.query('RELEASE SAVEPOINT one')
  await client.query('COMMIT')
  say('savepoints', await ids())
  const several = await client.query(q('BEGIN; INSERT INTO s.tx VALUES (6); COMMIT; SELECT max(id) FROM s.tx'))
  say('several statements', several.map((r) => [r.command, r.rows]))
  say('empty statement', (await client.query('')).rows)
}

async function prepared(client) {
  const got = []
  for (let i = 0; i < 15; i++) {
    got.push((await client.query({ name: 'plus', text: 'SELECT $1::int + 1 AS v', values: [i] })).rows[0].v)
    got.push((await client.query({ name: `other${i % 3}`, text: `SELECT $1::int * ${i % 3} AS v`, values: [i] })).rows[0].v)
  }
  say('named statements', got)
  const same = { text: 'SELECT $1::text AS v', values: ['unnamed'] }
  say('unnamed', (await client.query(same)).rows, (await client.query(same)).rows)
  const all = await Promise.all([...Array(100).keys()].map((i) => client.query({ name: 'plus', text: 'SELECT $1::int + 1 AS v', values: [i] })))
  say('many at once', all.reduce((sum, r) => sum + r.rows[0].v, 0))
}

async function cursors(client) {
  await client.query('BEGIN')
  const cursor = client.query(new Cursor('SELECT g FROM generate_series(1, $1::int) g', [1000]))
  const sizes = []
  let sum = 0
  for (let rows = await cursor.read(300); rows.length > 0; rows = await cursor.read(300)) {
    sizes.push(rows.length)
    sum += rows.reduce((total, row) => total + row.g, 0)
  }
  await cursor.close()
  say('cursor', sizes, sum)
  const early = client.query(new Cursor('SELECT g FROM generate_series(1, 1000) g'))
  say('left early', (await early.read(2)).map((row) => row.g))
  await early.close()
  const wrong = client.query(new Cursor('SELECT 1 / (3 - g) AS v FROM generate_series(1, 5) g'))
  say('before the error', (await wrong.read(1)).map((row) => row.v))
  await failing('error in a cursor', wrong.read(10))
  await client.query('ROLLBACK')
  const alone = client.query(new Cursor('SELECT g FROM generate_series(1, 10) g'))
  say('outside of a transaction', (await alone.read(100)).length)
  await alone.close()
  say('after the cursors', (await client.query('SELECT 1 AS v')).rows)
}

async function copies(client) {
  await client.query(q('CREATE TABLE s.copied (id int, v text)'))
  const lines = function* () {
    for (let i = 0; i < MANY; i++) yield `${i}\trow ${i} ü\n`
  }
  const into = client.query(copyFrom(q('COPY s.copied FROM STDIN')))
  await pipeline(Readable.from(lines()), into)
  say('copy in', into.rowCount)
  say('copy out', digest(await buffer(client.query(copyTo(q('COPY s.copied TO STDOUT'))))))
  say('csv out', digest(await buffer(client.query(copyTo(q('COPY (SELECT * FROM s.copied WHERE id < 100) TO STDOUT (FORMAT csv)'))))))
  await failing('bad data', pipeline(Readable.from(['1\tfine\nnot a number\twrong\n']), client.query(copyFrom(q('COPY s.copied FROM STDIN')))))
  const broken = async function* () {
    yield '1\tfine\n'
    throw Object.assign(new Error('given up'), { code: 'given up' })
  }
  await failing('given up', pipeline(Readable.from(broken()), client.query(copyFrom(q('COPY s.copied FROM STDIN')))))
  say('copied', (await client.query(q('SELECT count(*), sum(id) FROM s.copied'))).rows)
}

async function cancels(client) {
  const watcher = await connect()
  const asleep = failing('cancelled', client.query(`SELECT pg_sleep(60) /* ${schema} cancelled */`))
  await until('the query to be cancelled', async () => (await watcher.query(sleeps(`${schema} cancelled`))).rows[0].n > 0)
  await cancel(client)
  await asleep
  say('after it', (await client.query('SELECT 1 AS v')).rows)
  await client.query('BEGIN')
  await client.query('SET LOCAL statement_timeout = 50')
  await failing('statement_timeout', client.query('SELECT pg_sleep(60)'))
  await client.query('ROLLBACK')
  say('after statement_timeout', (await client.query('SHOW statement_timeout')).rows)
  await watcher.end()
}

async function notices(client) {
  const heard = []
  client.on('notice', (n) => heard.push([n.severity, n.code, n.message, n.hint]))
  await client.query("DO $$ BEGIN RAISE NOTICE 'hello %', 'ü'; RAISE WARNING 'mind' USING HINT = 'the gap'; END $$")
  say('notices', heard)
}

async function big(client) {
  const text = 'aé'.repeat(Math.floor(BIG / 3))
  say('big text', digest((await client.query("SELECT $1::text || 'z' AS v", [text])).rows[0].v))
  const bytes = Buffer.alloc(BIG, Buffer.from([...Array(256).keys()]))
  say('big bytea', digest((await client.query('SELECT $1::bytea AS v', [bytes])).rows[0].v))
  const { rows } = await client.query('SELECT g, md5(g::text) FROM generate_series(1, $1::int) g', [MANY])
  say('many rows', rows.length, digest(rows.map((row) => row.md5).join('')))
}

async function sessions(client) {
  await client.query("SET work_mem = '7MB'")
  say('set', (await client.query('SHOW work_mem')).rows)
  await client.query('RESET work_mem')
  say('lock', (await client.query('SELECT pg_try_advisory_lock(hashtext($1)) AS v', [schema])).rows)
  say('unlock', (await client.query('SELECT pg_advisory_unlock(hashtext($1)) AS v', [schema])).rows)
  if (!pooled) {
    await client.query('CREATE TEMP TABLE longer (id int)')
    await client.query('INSERT INTO longer VALUES ($1), (2)', [1])
    say('temporary table', (await client.query('SELECT count(*) FROM longer')).rows)
    await client.query('DROP TABLE longer')
  }
}

async function listens(client) {
  const other = await connect()
  await client.query(`LISTEN ${schema}`)
  for (const payload of ['from elsewhere ü', '']) {
    const heard = once(client, 'notification', { signal: AbortSignal.timeout(20_000) })
    await other.query('SELECT pg_notify($1, $2)', [schema, payload])
    const [notification] = await heard
    say('heard', notification.channel, notification.payload)
  }
  await client.query(`UNLISTEN ${schema}`)
  await other.end()
}

async function pools() {
  const pool = new Pool({ connectionString: url, max: 4 })
  await pool.query(q('CREATE TABLE s.pooled (id int)'))
  const work = async (i) => {
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      await client.query({ name: 'insert', text: q('INSERT INTO s.pooled VALUES ($1)'), values: [i] })
      await client.query('COMMIT')
      return (await client.query('SELECT $1::int * 2 AS v', [i])).rows[0].v
    } finally {
      client.release()
    }
  }
  say('pool', await Promise.all([...Array(50).keys()].map(work)))
  say('pooled', (await pool.query(q('SELECT count(*), sum(id) FROM s.pooled'))).rows)
  await pool.end()
}

run(async () => {
  const client = await connect()
  await client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`)
  await client.query(`CREATE SCHEMA ${schema}`)
  const sections = [types, errors, transactions, prepared, cursors, copies, cancels, notices, big, sessions]
  if (!pooled) sections.push(listens)
  for (const section of sections) {
    console.log(`-- ${section.name}`)
    await section(client)
  }
  await pools()
  await client.query(`DROP SCHEMA ${schema} CASCADE`)
  await client.end()
})
