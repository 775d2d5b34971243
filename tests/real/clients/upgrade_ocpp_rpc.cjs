// A charge point on npm's ocpp-rpc in strict mode that stays connected: Heartbeats without a pause, until it is asked for a Reset.
//
//   NODE_PATH=… node upgrade_ocpp_rpc.cjs wss://localhost:4000 CP1      Ends badly if its connection does before that.
'use strict';
const { RPCClient } = require('ocpp-rpc');

const [endpoint, identity] = process.argv.slice(2);

async function main() {
  const client = new RPCClient({ endpoint, identity, protocols: ['ocpp1.6'], strictMode: true, reconnect: false, pingIntervalMs: 200 });
  const fail = (what) => {
    console.error(what);
    process.exit(1);
  };
  client.on('strictValidationFailure', ({ error }) => fail(`not as the schema says: ${error}`));
  let isOver = false;
  client.on('disconnect', ({ code, reason }) => isOver || fail(`disconnected with ${code} ${reason}`));
  client.handle('RemoteStartTransaction', () => ({ status: 'Accepted' }));
  client.handle('Reset', () => {
    isOver = true;
    return { status: 'Accepted' };
  });
  await client.connect();
  const boot = { chargePointVendor: 'ocpp-rpc', chargePointModel: 'strict' };
  console.log('booted', (await client.call('BootNotification', boot)).status);
  console.log('ready');
  let count = 0;
  for (; !isOver; count++) {
    await client.call('Heartbeat', {});
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await client.close({ code: 1000, reason: 'done', awaitPending: true });
  console.log('closed', count);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
