// A charge point on npm's ocpp-rpc in strict mode: it checks every message against OCPP's own schemas, both ways.
//
//   NODE_PATH=… node ocpp_rpc.cjs ws://127.0.0.1:4000 CP1 ocpp1.6      Ends well once it was asked to start charging.
'use strict';
const { RPCClient } = require('ocpp-rpc');

const [endpoint, identity, protocol] = process.argv.slice(2);
const is16 = protocol === 'ocpp1.6';
const boot = is16
  ? { chargePointVendor: 'ocpp-rpc', chargePointModel: 'strict' }
  : { reason: 'PowerUp', chargingStation: { vendorName: 'ocpp-rpc', model: 'strict' } };

async function main() {
  const client = new RPCClient({
    endpoint,
    identity,
    protocols: [protocol],
    strictMode: true,
    reconnect: false,
    pingIntervalMs: 200,
  });
  client.on('strictValidationFailure', ({ error }) => {
    console.error('not as the schema says:', error);
    process.exit(1);
  });
  const started = new Promise((resolve) => {
    client.handle(is16 ? 'RemoteStartTransaction' : 'RequestStartTransaction', ({ params }) => {
      // Once the answer is on its way.
      setImmediate(resolve, params);
      return { status: 'Accepted' };
    });
  });
  await client.connect();
  console.log('protocol', client.protocol);
  const { status, currentTime, interval } = await client.call('BootNotification', boot);
  console.log('booted', status, interval, currentTime);
  console.log('heartbeat', (await client.call('Heartbeat', {})).currentTime);
  const refusal = await client
    .call('FirmwareStatusNotification', { status: 'Idle' })
    .then(() => 'no refusal', (error) => error.rpcErrorCode ?? error.message);
  console.log('refused', refusal);
  console.log('ready');
  console.log('asked', JSON.stringify(await started));
  await client.close({ code: 1000, reason: 'done', awaitPending: true });
  console.log('closed');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
