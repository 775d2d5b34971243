// A central system of npm ocpp-rpc in strict mode: node ocpp_rpc_server.cjs SUBPROTOCOL. Prints its port, and when it is told to end
// (SIGTERM) how many chargers came and how many Calls of each Action it has answered.
const { RPCServer, createRPCError } = require('ocpp-rpc');

const [protocol] = process.argv.slice(2);
const counts = { connects: 0, calls: {} };
let transactions = 0;
const answers = {
  BootNotification: () => ({ status: 'Accepted', interval: 1, currentTime: new Date().toISOString() }),
  Heartbeat: () => ({ currentTime: new Date().toISOString() }),
  StartTransaction: () => ({ transactionId: ++transactions, idTagInfo: { status: 'Accepted' } }),
  MeterValues: () => ({}),
  StopTransaction: () => ({}),
  TransactionEvent: () => ({}),
};

async function main() {
  const server = new RPCServer({ protocols: [protocol], strictMode: true });
  server.auth((accept, reject, handshake) => {
    if (handshake.password?.toString() === 'secret') accept();
    else reject(401, 'the password is secret');
  });
  server.on('client', (client) => {
    counts.connects += 1;
    client.handle(({ method }) => {
      if (!answers[method]) throw createRPCError('NotImplemented');
      counts.calls[method] = (counts.calls[method] ?? 0) + 1;
      return answers[method]();
    });
  });
  const http = await server.listen(0, '127.0.0.1');
  console.log(JSON.stringify({ port: http.address().port }));
  process.on('SIGTERM', () => {
    console.log(JSON.stringify(counts));
    process.exit(0);
  });
}

main();
