// npm's ws, compressing, that stays connected: Calls of all sizes in order, fragments and pings between them, until it is asked for
// a Reset.
//
//   NODE_PATH=… node upgrade_ws.cjs wss://localhost:4000/CP1      Ends badly if its connection does before that.
'use strict';
const assert = require('node:assert');
const { once } = require('node:events');
const WebSocket = require('ws');

const SIZES = [0, 20, 300, 700, 5_000, 700, 70_000];

async function main() {
  const socket = new WebSocket(process.argv[2], ['ocpp1.6'], { perMessageDeflate: { threshold: 0 } });
  const waiting = new Map();
  let isOver = false;
  let pongs = 0;
  socket.on('pong', () => pongs++);
  socket.on('close', (code) => {
    if (isOver) return;
    console.error(`closed with ${code}`);
    process.exit(1);
  });
  socket.on('message', (data) => {
    const frame = JSON.parse(data.toString());
    if (frame[0] !== 2) {
      // In the order of the Calls.
      assert.equal(waiting.keys().next().value, frame[1]);
      waiting.get(frame[1])(frame);
      return waiting.delete(frame[1]);
    }
    isOver ||= frame[2] === 'Reset';
    socket.send(JSON.stringify([3, frame[1], { status: 'Accepted' }]));
  });
  await once(socket, 'open');
  assert.ok(socket.extensions.startsWith('permessage-deflate'), 'compression is on');
  console.log('ready');
  const call = (id, body) =>
    new Promise((resolve) => {
      waiting.set(id, resolve);
      const text = JSON.stringify([2, id, 'Echo', body]);
      const cut = 12;
      socket.send(text.slice(0, cut), { fin: false });
      socket.ping();
      socket.send(text.slice(cut), { fin: true });
    });
  let count = 0;
  while (!isOver) {
    // Three at once.
    const calls = [0, 1, 2].map((number) => {
      const body = { count, number, pad: 'Energy.Active.Import.Register '.repeat(SIZES[count % SIZES.length] / 30) };
      return call(`${count}-${number}`, body).then((frame) => assert.deepEqual(frame, [3, `${count}-${number}`, body]));
    });
    await Promise.all(calls);
    count++;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.ok(pongs > 0);
  socket.close(1000, 'done');
  assert.equal((await once(socket, 'close'))[0], 1000);
  console.log('closed', count);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
