// npm's ws with compression: Calls of all sizes whose answers have to be their own payloads, over two connections; pushes are
// answered with what they bring. Says what was agreed on, and `done`.
//
//   NODE_PATH=… node compressed.cjs ws://127.0.0.1:4000/CP1 1000 '{"serverMaxWindowBits":9}'
'use strict';
const assert = require('node:assert');
const crypto = require('node:crypto');
const { once } = require('node:events');
const WebSocket = require('ws');

const [url, count, options] = process.argv.slice(2);

// Of all sizes, every tenth of it nothing that could be compressed.
function payload(number) {
  const sizes = [0, 20, 300, 700, 700, 2_000, 5_000, 700, 300, 70_000];
  const size = sizes[number % sizes.length];
  const pad = number % 10 === 6 ? crypto.randomBytes(size).toString('base64') : 'Energy.Active.Import.Register '.repeat(size / 30);
  return { number, pad, value: `${(number * 7919) % 10_007}` };
}

async function connect() {
  const socket = new WebSocket(url, ['ocpp1.6'], { perMessageDeflate: { threshold: 0, ...JSON.parse(options) } });
  const waiting = new Map();
  socket.on('message', (data) => {
    const frame = JSON.parse(data.toString());
    if (frame[0] === 2) return socket.send(JSON.stringify([3, frame[1], frame[3]]));
    waiting.get(frame[1])(frame);
    waiting.delete(frame[1]);
  });
  socket.on('close', (code) => waiting.forEach((tell) => tell(['closed', code])));
  await once(socket, 'open');
  const call = (id, body) =>
    new Promise((resolve) => {
      waiting.set(id, resolve);
      socket.send(JSON.stringify([2, id, 'Echo', body]));
    });
  return { socket, call };
}

async function main() {
  for (let round = 0; round < 2; round++) {
    const { socket, call } = await connect();
    console.log('agreed', JSON.stringify(socket._extensions['permessage-deflate']?.params ?? null));
    for (let number = 0; number < count; number++) {
      const body = payload(number);
      assert.deepEqual(await call(`${round}-${number}`, body), [3, `${round}-${number}`, body]);
    }
    socket.close(1000);
    assert.equal((await once(socket, 'close'))[0], 1000);
  }
  console.log('done');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
