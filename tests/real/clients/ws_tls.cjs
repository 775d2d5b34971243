// Echoes messages of every size over wss with one suite, twice: the second connection is offered the first one's session.
// node ws_tls.cjs URL SUITE
const WebSocket = require('ws');

const [url, suite] = process.argv.slice(2);
const isTls13 = suite.startsWith('TLS_');
const version = isTls13 ? 'TLSv1.3' : 'TLSv1.2';
// Without one of TLS 1.2 Node.js refuses the list.
const ciphers = isTls13 ? `${suite}:ECDHE-RSA-AES128-GCM-SHA256` : suite;
const text = (type, length) => JSON.stringify([type, String(length), ...(type === 2 ? ['Echo'] : []), { s: 'n'.repeat(length) }]);

function play(session) {
  return new Promise((resolve, reject) => {
    let tls;
    let offered;
    const lengths = [0, 1, 200, 16000, 16384, 100000, 900000];
    const socket = new WebSocket(url, ['ocpp1.6'], { ciphers, session, minVersion: version, maxVersion: version });
    socket.on('upgrade', (response) => {
      tls = response.socket;
      console.log(`secure ${tls.getCipher().name} ${tls.isSessionReused() ? 'resumed' : 'full'}`);
    });
    socket.on('open', () => socket.send(text(2, lengths[0])));
    socket.on('message', (data) => {
      const length = lengths.shift();
      if (data.toString() !== text(3, length)) return reject(new Error(`another answer: ${data.toString().slice(0, 80)}`));
      if (lengths.length > 0) socket.send(text(2, lengths[0]));
      else {
        // By now the ticket has come.
        offered = tls.getSession();
        socket.close(1000);
      }
    });
    socket.on('close', (code) => {
      console.log(`closed ${code}`);
      resolve(offered);
    });
    socket.on('error', reject);
  });
}

play().then(play).catch((error) => {
  console.log(error);
  process.exitCode = 1;
});
