// One signed call, as a Node script makes it: what to call as JSON on stdin, what came of it as JSON on stdout.
'use strict';
const fs = require('fs');
const http = require('http');
const httpSignature = require('http-signature');

const asked = JSON.parse(fs.readFileSync(0, 'utf8'));
const request = http.request(asked.url, { method: asked.method, headers: asked.headers }, (response) => {
  const pieces = [];
  response.on('data', (piece) => pieces.push(piece));
  response.on('end', () => {
    const told = { status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces).toString() };
    process.stdout.write(JSON.stringify(told));
  });
});
request.on('error', (error) => { throw error; });
httpSignature.sign(request, { keyId: asked.keyId, key: asked.secret, algorithm: asked.algorithm, headers: asked.signed });
request.end(asked.body);
