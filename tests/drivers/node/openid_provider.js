// An OpenID provider on a free port of this machine: openid_provider.js ID SECRET METHOD. It prints `listening PORT`.
//
// Tokens, clients and their registration (RFC 7591 and 7592) are those of oidc-provider. Before them are the paths of
// Keycloak's client registration, and of Zync's REST contract, for ID alone, whose tokens they check with the provider.
// As in Keycloak, whoever registers names the client and its secret, and keeps no registration access token.
'use strict';

const http = require('node:http');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

const [id, secret, method] = process.argv.slice(2);
const INITIAL = 'initial-access-token';

// By client: its registration access token, its secret, and what was said of it.
const registered = new Map();
const seen = new Set();
let revoked = new Set();
let tokens = 0;

async function main() {
  const library = path.join(process.env.NODE_PATH, 'oidc-provider/lib/index.js');
  const { Provider } = await import(pathToFileURL(library));
  const server = http.createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address();
  const issuer = `http://127.0.0.1:${port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: id,
      client_secret: secret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: method,
    }],
    clientAuthMethods: method === 'client_secret_basic' ? [method] : [method, 'client_secret_basic'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      registration: {
        enabled: true,
        initialAccessToken: INITIAL,
        idFactory: (ctx) => ctx.oidc.body.client_id,
        secretFactory: (ctx) => ctx.oidc.body.client_secret,
      },
      registrationManagement: { enabled: true, rotateRegistrationAccessToken: false },
    },
  });
  provider.on('client_credentials.saved', (token) => { tokens += token.clientId === id ? 1 : 0; });
  const own = provider.callback();
  server.on('request', (request, response) => {
    const url = new URL(request.url, issuer);
    const match = /^\/(clients-registrations\/default|clients)(?:\/([^/]+))?$/.exec(url.pathname);
    const answer = (status, body) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(body === undefined ? undefined : JSON.stringify(body));
    };
    if (url.pathname === '/figures') {
      answer(200, { tokens });
    } else if (url.pathname === '/revoke') {
      revoked = new Set(seen);
      answer(204);
    } else if (match) {
      const named = match[2] && decodeURIComponent(match[2]);
      handle(provider, issuer, request, match[1] === 'clients' ? REST : KEYCLOAK, named)
        .then(([status, body]) => answer(status, body), (error) => answer(500, { error: String(error) }));
    } else {
      own(request, response);
    }
  });
  console.log(`listening ${port}`);
}

// What each contract calls things, and which status its answers have.
const KEYCLOAK = {
  creates: false,
  id: (body) => body.clientId,
  read: (body) => ({
    client_id: body.clientId,
    client_secret: body.secret,
    client_name: body.name ?? undefined,
    redirect_uris: body.redirectUris,
    grant_types: [
      ...(body.standardFlowEnabled ? ['authorization_code'] : []),
      ...(body.serviceAccountsEnabled ? ['client_credentials'] : []),
    ],
  }),
  // It has more than it was given, and attributes as texts.
  write: (body) => ({
    id: 'a UUID',
    publicClient: false,
    ...body,
    attributes: Object.fromEntries(Object.entries(body.attributes).map(([name, value]) => [name, String(value)])),
  }),
};
const REST = { creates: true, id: (body) => body.client_id, read: (body) => body, write: (body) => body };

async function handle(provider, issuer, request, contract, named) {
  const shown = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
  const token = shown && !revoked.has(shown) && await provider.ClientCredentials.find(shown);
  if (!token || token.clientId !== id) {
    return [401, { error: 'invalid_token', error_description: 'Not authorized to update client. Maybe missing token or bad token type.' }];
  }
  seen.add(shown);
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = chunks.length > 0 ? JSON.parse(Buffer.concat(chunks)) : undefined;
  const known = registered.get(named ?? contract.id(body));
  const creates = named === undefined || (contract.creates && request.method === 'PUT' && !known);
  if (!known && !creates) {
    return [404, { error: 'invalid_request', error_description: 'Client not found' }];
  }
  if (known && named === undefined) {
    return [400, { error: 'invalid_client_metadata', error_description: 'Client Identifier in use' }];
  }
  switch (request.method) {
    case 'GET':
      return [200, contract.write(known.body)];
    case 'DELETE':
      await manage(issuer, known, 'DELETE', named);
      registered.delete(named);
      return [204];
    default: {
      const metadata = { response_types: [], ...contract.read(body) };
      if (metadata.grant_types.includes('authorization_code')) metadata.response_types = ['code'];
      let registration = known;
      if (known && known.secret === metadata.client_secret) {
        await manage(issuer, known, 'PUT', named, metadata);
      } else {
        // A client can't choose another secret by RFC 7592; Keycloak's can.
        if (known) await manage(issuer, known, 'DELETE', named);
        const given = await send(issuer, 'POST', 'reg', INITIAL, metadata);
        registration = { token: given.registration_access_token, secret: given.client_secret };
      }
      registered.set(metadata.client_id, { ...registration, body });
      return [creates ? 201 : 200, contract.write(body)];
    }
  }
}

const manage = (issuer, known, how, named, metadata) => (
  send(issuer, how, `reg/${encodeURIComponent(named)}`, known.token, metadata)
);

async function send(issuer, how, where, token, metadata) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const body = metadata && JSON.stringify(metadata);
  const answer = await fetch(`${issuer}/${where}`, { method: how, headers, body });
  if (!answer.ok) throw new Error(`${how} ${where}: ${answer.status} ${await answer.text()}`);
  return answer.status === 204 ? undefined : answer.json();
}

main();
