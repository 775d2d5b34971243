// npm's ocpp-rpc with compression: Calls whose answers have to be their own payloads, over two connections; pushes are
// answered with what they bring. Says what was agreed on, and `done`.
//
//   NODE_PATH=… node ocpp_rpc_compressed.cjs ws://127.0.0.1:4000 CP1 1000
'use strict';
const assert = require('node:assert');
const { RPCClient } = require('ocpp-rpc');

const [endpoint, identity, count] = process.argv.slice(2);

async function main() {
  for (let round = 0; round < 2; round++) {
    const client = new RPCClient({
      endpoint,
      identity,
      protocols: ['ocpp2.0.1'],
      reconnect: false,
      pingIntervalMs: 200,
      wsOpts: { perMessageDeflate: { threshold: 100 } },
    });
    client.handle(({ params }) => params);
    client.once('open', ({ response }) => console.log('agreed', response.headers['sec-websocket-extensions']));
    await client.connect();
    for (let number = 0; number < count; number++) {
      const body = { number, pad: 'Energy.Active.Import.Register '.repeat((number * 7) % 100) };
      assert.deepEqual(await client.call('Echo', body), body);
    }
    await client.close({ code: 1000, awaitPending: true });
  }
  console.log('done');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
