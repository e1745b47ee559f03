// What the Node driver programs share: arguments, and how a transcript is written.
'use strict'

const crypto = require('node:crypto')
const { once } = require('node:events')
const { Client } = require('pg')

if (process.argv.length !== 4) {
  console.error(`usage: ${process.argv[1]} URL SCHEMA`)
  process.exit(2)
}
const [url, schema] = process.argv.slice(2)
const pooled = (process.env.FEATURES ?? '').split(',').includes('transaction-pooling')
const deadline = 20_000

/** The statement with `s.` standing for the schema. */
const q = (text) => text.replaceAll(/\bs\./g, `${schema}.`)

/** One line of the transcript. */
function say(what, ...values) {
  console.log(`${what}:`, ...values.map((value) => JSON.stringify(value) ?? 'undefined'))
}

/** Stands for data that is too long to print. */
function digest(data) {
  const bytes = Buffer.from(data)
  return `${bytes.length} bytes ${crypto.createHash('md5').update(bytes).digest('hex')}`
}

/** Awaits what has to fail, and tells how. */
async function failing(what, promise) {
  const error = await promise.then(() => undefined, (reason) => reason)
  if (error === undefined) throw new Error(`${what} did not fail`)
  tell(what, error)
}

/** drizzle wraps the error of the driver. */
function tell(what, error) {
  const e = error.code ? error : error.cause ?? error
  if (!e.code) throw error
  say(what, e.code, e.severity, e.message, e.detail, e.constraint, e.table, e.position)
}

/** Asks until it is so; fails when the deadline is over. */
async function until(what, ask) {
  const end = Date.now() + deadline
  while (!(await ask())) {
    if (Date.now() > end) throw new Error(`${what} did not happen within ${deadline} ms`)
    await new Promise((next) => setTimeout(next, 10))
  }
}

/** Asks whether a query with this text is asleep in the server, whichever connection has it. */
const sleeps = (text) =>
  `SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND position('${text}' IN query) > 0`

/**
 * Cancels what a client is working on. Not over before the server has closed the connection that asked for it:
 * it signals the process and then its group, and the second signal may otherwise meet a later query.
 */
async function cancel(client) {
  const canceller = new Client({ connectionString: url })
  const closed = once(canceller.connection, 'end')
  canceller.cancel(client, client.activeQuery)
  await closed
}

/** Runs the sections in turn, then says that it is done. */
async function run(main) {
  try {
    await main()
    console.log('done:')
  } catch (error) {
    console.error(error)
    // Connections that are still open would keep the program alive.
    process.exit(1)
  }
}

module.exports = { url, schema, pooled, q, say, digest, failing, tell, until, sleeps, cancel, run, BIG: 5_000_000, MANY: 20_000 }
