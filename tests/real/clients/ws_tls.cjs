// Echoes messages of every size over wss, and closes. node ws_tls.cjs URL
const WebSocket = require('ws');

const lengths = [0, 1, 200, 16000, 16384, 100000, 900000];
const socket = new WebSocket(process.argv[2], ['ocpp1.6']);
const text = (length) => JSON.stringify([2, String(length), 'Echo', { s: 'n'.repeat(length) }]);

socket.on('open', () => socket.send(text(lengths[0])));
socket.on('message', (data) => {
  const length = lengths.shift();
  const expected = JSON.stringify([3, String(length), { s: 'n'.repeat(length) }]);
  if (data.toString() !== expected) throw new Error(`another answer: ${data.toString().slice(0, 80)}`);
  if (lengths.length > 0) socket.send(text(lengths[0]));
  else socket.close(1000);
});
socket.on('close', (code) => console.log(`closed ${code}`));
socket.on('error', (error) => {
  console.log(error);
  process.exitCode = 1;
});
