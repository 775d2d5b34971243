// npm's ws, the WebSocket library of Node.js, with all that it does by itself: it offers compression, masks, fragments, pings.
//
//   NODE_PATH=… node ws.cjs ws://127.0.0.1:4000/CP1
'use strict';
const assert = require('node:assert');
const { on, once } = require('node:events');
const WebSocket = require('ws');

async function main() {
  const socket = new WebSocket(process.argv[2], ['ocpp2.0.1', 'ocpp1.6'], { perMessageDeflate: true });
  // It keeps what comes while nobody waits.
  const messages = on(socket, 'message');
  const next = async () => JSON.parse((await messages.next()).value[0].toString());
  await once(socket, 'open');
  assert.equal(socket.protocol, 'ocpp2.0.1');
  assert.equal(socket.extensions, 'permessage-deflate', 'compression is on');

  socket.send('[2,"1","Heartbeat",{}]');
  const answer = await next();
  assert.deepEqual(answer.slice(0, 2), [3, '1']);
  assert.ok(answer[2].currentTime);

  // A message in fragments, one of them empty, a ping in between.
  const pong = once(socket, 'pong');
  const text = '[2,"2","Authorize",{"idToken":{"idToken":"é","type":"Central"}}]';
  for (const [piece, fin] of [[text.slice(0, 7), false], ['', false], [text.slice(7, 40), false]]) {
    socket.send(piece, { fin, compress: false });
    if (!piece) socket.ping('between');
  }
  socket.send(text.slice(40), { fin: true, compress: false });
  assert.deepEqual(await next(), [3, '2', { idTokenInfo: { status: 'Accepted' } }]);
  assert.equal((await pong)[0].toString(), 'between');

  // Large, and many at once: answered one by one, in order.
  const payload = { customData: { vendorId: 'x'.repeat(200_000) } };
  for (let id = 10; id < 20; id++) socket.send(JSON.stringify([2, `${id}`, 'StatusNotification', payload]));
  for (let id = 10; id < 20; id++) assert.deepEqual(await next(), [3, `${id}`, {}]);

  socket.send('[2,"3","Nope",{}]');
  assert.deepEqual((await next()).slice(0, 3), [4, '3', 'NotImplemented']);

  console.log('ready');
  const push = await next();
  assert.equal(push[2], 'RequestStartTransaction');
  socket.send(JSON.stringify([3, push[1], { status: 'Accepted' }]));

  socket.close(1000, 'done');
  const [code, reason] = await once(socket, 'close');
  assert.deepEqual([code, reason.toString()], [1000, 'done']);
  console.log('closed');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
