// Verifies a delivery with the public library: a JSON object {secret, headers, body} comes in, `verified` or
// `refused: WHY` goes out.
'use strict';

const fs = require('node:fs');
const { Webhook, WebhookVerificationError } = require('standardwebhooks');

const given = JSON.parse(fs.readFileSync(0, 'utf8'));
try {
  const told = new Webhook(given.secret).verify(given.body, given.headers);
  console.log('verified', told.data.events.length);
} catch (error) {
  if (!(error instanceof WebhookVerificationError)) throw error;
  console.log('refused:', error.message);
}
