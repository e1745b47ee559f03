// The same as partner.py, with another library of another language.
//
//     npm install openid-client pg
//
//     ISSUER=https://integratedb.example CLIENT_ID=... CLIENT_SECRET=... \
//     REDIRECT_URI=http://127.0.0.1:8080/callback ORIGIN=postgres://shop:secret@db.partner.example/shop \
//         node partner.mjs

import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'

import * as oauth from 'openid-client'
import pg from 'pg'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI } = process.env
// Where the user's database is. The partner knows it, with the credentials; IntegrateDB gets neither user nor password.
const ORIGIN = new URL(process.env.ORIGIN)

const tell = (what, value) => console.log(`${what}: ${value}`)

// Listens for the one request that the browser is sent back with.
async function listenForTheBrowser() {
  const { hostname, port, pathname } = new URL(REDIRECT_URI)
  const server = createServer()
  const answer = new Promise((resolve) => {
    server.on('request', (request, response) => {
      const url = new URL(request.url, REDIRECT_URI)
      const isIt = url.pathname === pathname
      response.writeHead(isIt ? 200 : 404, { 'Content-Type': 'text/plain; charset=utf-8', Connection: 'close' })
      response.end(isIt ? 'You can close this window.\n' : '')
      if (isIt) {
        server.close()
        resolve(url)
      }
    })
  })
  server.listen(Number(port), hostname)
  await once(server, 'listening')
  // In an object, as a promise would be waited for.
  return { answer }
}

// Sends the user to IntegrateDB, and trades the code that comes back for tokens.
async function authorize(config) {
  const pkceCodeVerifier = oauth.randomPKCECodeVerifier()
  const expectedState = oauth.randomState()
  const url = oauth.buildAuthorizationUrl(config, {
    redirect_uri: REDIRECT_URI,
    scope: 'caches:read caches:write',
    code_challenge: await oauth.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
    state: expectedState,
  })
  // It listens before anybody can come.
  const { answer } = await listenForTheBrowser()
  tell('Please open', url.href)
  // Checks state and issuer (RFC 9207) too.
  const tokens = await oauth.authorizationCodeGrant(config, await answer, { pkceCodeVerifier, expectedState })
  tell('Access to', tokens.scope)
  return tokens
}

// Makes a cache of the user's database, in the workspace that the user has picked.
async function createCache(config, tokens) {
  const cache = {
    name: 'shop, by partner.mjs',
    type: 'postgres',
    hostname: ORIGIN.hostname,
    port: Number(ORIGIN.port || 5432),
  }
  const headers = new Headers({
    'Content-Type': 'application/json',
    // If the answer is lost, the same request with the same key makes no second cache.
    'Idempotency-Key': randomUUID(),
  })
  const url = new URL('/api/v1/caches', ISSUER)
  const body = JSON.stringify({ cache })
  const answer = await oauth.fetchProtectedResource(config, tokens.access_token, url, 'POST', body, headers)
  if (answer.status !== 201) throw new Error(`no cache: ${answer.status} ${await answer.text()}`)
  const { data } = await answer.json()
  tell('Cache', data.id)
  tell('Connection string', data.connection_string)
  return data
}

// Queries through the cache, with the user's own credentials for the database.
async function query(cache) {
  const connectionString = cache.connection_string
    .replace('[USERNAME]', () => ORIGIN.username)
    .replace('[PASSWORD]', () => ORIGIN.password)
    .replace('[DATABASE]', () => ORIGIN.pathname.slice(1))
  const client = new pg.Client({ connectionString })
  await client.connect()
  const { rows } = await client.query('SELECT count(*) FROM products')
  tell('Answer through the cache', rows[0].count)
  await client.end()
}

async function stateOf(config, tokens, cache) {
  const url = new URL(`/api/v1/caches/${cache.id}`, ISSUER)
  try {
    const answer = await oauth.fetchProtectedResource(config, tokens.access_token, url, 'GET')
    await answer.body?.cancel()
    return answer.status
  } catch (error) {
    // The library makes an error of an answer with a challenge.
    if (error.code === 'OAUTH_WWW_AUTHENTICATE_CHALLENGE') return error.status
    throw error
  }
}

const issuer = new URL(ISSUER)
// A partner asks for https always; this is for trying it out on one machine.
const execute = issuer.hostname === '127.0.0.1' ? [oauth.allowInsecureRequests] : []
const secret = oauth.ClientSecretBasic(CLIENT_SECRET)
const config = await oauth.discovery(issuer, CLIENT_ID, undefined, secret, { algorithm: 'oauth2', execute })

let tokens = await authorize(config)
const cache = await createCache(config, tokens)
await query(cache)

// Before a token runs out, or after. Each refresh token works once: keep what comes with the answer.
const former = tokens.access_token
tokens = await oauth.refreshTokenGrant(config, tokens.refresh_token)
tell('New token', tokens.access_token !== former)
tell('With it', await stateOf(config, tokens, cache))

tell('Disconnect', 'press Enter, or first take the consent back at IntegrateDB')
const input = createInterface({ input: process.stdin })
await once(input, 'line')
input.close()
tell('Before disconnecting', await stateOf(config, tokens, cache))
await oauth.tokenRevocation(config, tokens.refresh_token, { token_type_hint: 'refresh_token' })
tell('Disconnecting', 200)
tell('After disconnecting', await stateOf(config, tokens, cache))
try {
  await oauth.refreshTokenGrant(config, tokens.refresh_token)
} catch (error) {
  tell('Refreshing', error.error)
}
