"""Plays a backend that lets everybody in, echoes every Call, and remembers every request."""

import asyncio
import collections
import json
from urllib.parse import unquote

from aiohttp import web

from stage import until


class Recorder:
    def __init__(self, stage, ssl_context=None):
        self.port = stage.port()
        self.ssl_context = ssl_context
        self.connects = []  # (ClientId, headers)
        self.calls = collections.Counter()  # (ClientId, MessageId)
        self.disconnects = []
        # MessageId of a push to what came for it, by Idempotency-Key: the same one again is a repeat, not a second outcome.
        self.outcomes = collections.defaultdict(dict)
        self.changed = asyncio.Event()

    @property
    def url(self):
        return f"{'https' if self.ssl_context else 'http'}://127.0.0.1:{self.port}"

    async def start(self):
        server = web.Server(self.handle, access_log=None)
        self.runner = web.ServerRunner(server)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, ssl_context=self.ssl_context).start()
        return self

    async def stop(self):
        await self.runner.cleanup()

    async def handle(self, request):
        kind, *names = [unquote(part) for part in request.raw_path.lstrip("/").split("/")]
        body = await request.read()
        if kind == "connect":
            self.connects.append((json.loads(body), request.headers))
            return web.json_response("ok")
        if kind == "call":
            action, client, message_id = names
            self.calls[client, message_id] += 1
            return web.Response(body=self.answer(action, client, body), content_type="application/json")
        if kind in ("result", "error"):
            action, client, message_id = names
            made_by = request.headers.get("X-Origin", "client")
            key = request.headers["Idempotency-Key"]
            self.outcomes[message_id][key] = (kind, made_by, json.loads(body))
        if kind == "disconnect":
            self.disconnects.append(json.loads(body))
        return web.Response(status=204)

    def answer(self, action, client, body):
        return body

    def connect_of(self, client):
        """The headers of the latest `/connect` of that client; None if it was never asked about."""
        return next((headers for name, headers in reversed(self.connects) if name == client), None)

    async def outcome(self, message_id):
        await until(f"the outcome of {message_id}", lambda: self.outcomes.get(message_id))
        outcomes = list(self.outcomes[message_id].values())
        assert len(outcomes) == 1, f"{message_id} has {outcomes}"
        return outcomes[0]
