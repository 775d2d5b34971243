#!/usr/bin/env node
// The same mapping as ws2api's, written the usual way in Node.js: `ws` for the clients, `undici` for the backend.
// It keeps docs/contract.md for clients that behave, and is here to be compared with.
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { Pool } from 'undici';
import { WebSocketServer } from 'ws';

const text = { type: 'string' };
const { values } = parseArgs({
  options: {
    listen: { ...text, default: '127.0.0.1:4000' },
    ingress: { ...text, default: '127.0.0.1:4001' },
    backend: { ...text, default: 'http://127.0.0.1:5000' },
    admin: text, // taken so that the proxy's command line fits
    cores: text,
  },
});

const backend = new Pool(values.backend, { connections: 128, pipelining: 1 });
const clients = new Map();
const headers = { 'content-type': 'application/json' };

async function post(path, body) {
  const answer = await backend.request({ method: 'POST', path, headers, body });
  return { status: answer.statusCode, text: await answer.body.text() };
}

async function handleFrame(client, data) {
  const [type, id, action, payload] = JSON.parse(data);
  if (type === 2) {
    const path = `/call/${encodeURIComponent(action)}/${client.path}/${encodeURIComponent(id)}`;
    const answer = await post(path, JSON.stringify(payload)).catch((error) => ({ status: 502, text: error.message }));
    client.socket.send(
      answer.status < 300
        ? JSON.stringify([3, id, answer.text === '' ? {} : JSON.parse(answer.text)])
        : JSON.stringify([4, id, 'InternalError', answer.text, {}]),
    );
  } else if (type === 3 && client.pushes.has(id)) {
    const pushed = client.pushes.get(id);
    client.pushes.delete(id);
    await post(`/result/${pushed}/${client.path}/${encodeURIComponent(id)}`, JSON.stringify(action));
  }
}

const upgrades = new WebSocketServer({
  noServer: true,
  perMessageDeflate: false,
  handleProtocols: (offered) => offered.values().next().value ?? false,
});
const front = createServer((_, response) => response.writeHead(426).end());
front.on('upgrade', async (request, socket, head) => {
  const path = request.url.slice(1);
  const id = decodeURIComponent(path);
  const answer = await post('/connect', JSON.stringify(id)).catch(() => ({ status: 502, text: '' }));
  if (answer.text !== '"ok"') {
    socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
    return;
  }
  upgrades.handleUpgrade(request, socket, head, (webSocket) => {
    const client = { socket: webSocket, path, pushes: new Map() };
    clients.set(id, client);
    webSocket.on('message', (data) => handleFrame(client, data).catch(() => webSocket.close(1002)));
    webSocket.on('error', () => webSocket.terminate());
    webSocket.on('close', () => clients.get(id) === client && clients.delete(id));
  });
});

const ingress = createServer(async (request, response) => {
  const [kind, action, id, messageId] = request.url.slice(1).split('/').map(decodeURIComponent);
  const chunks = await request.toArray();
  const client = kind === 'call' ? clients.get(id) : undefined;
  const body = JSON.stringify({ status: client ? 'sent' : 'not connected', messageId });
  if (client) {
    client.pushes.set(messageId, encodeURIComponent(action));
    client.socket.send(JSON.stringify([2, messageId, action, JSON.parse(Buffer.concat(chunks))]));
  }
  response.writeHead(client ? 202 : 404, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body);
});

const at = (address) => ({ host: address.split(':')[0], port: Number(address.split(':')[1]), backlog: 4096 });
front.listen(at(values.listen));
ingress.listen({ ...at(values.ingress) });
process.on('SIGTERM', () => process.exit(0));
