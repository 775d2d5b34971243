"""Plays a backend of so many workers, each busy for so long with a Call: what is more waits for one, as in RoadRunner."""

import asyncio
import collections
import time

from aiohttp import web


class Workers:
    """`seconds`: how long a Call holds its worker; it may change. `patience`: how long one waits for a worker."""

    def __init__(self, stage, count, seconds, patience=10.0):
        self.port = stage.port()
        self.count = count
        self.seconds = seconds
        self.patience = patience
        self.free = asyncio.Semaphore(count)
        self.runs = collections.Counter()  # (ClientId, MessageId)
        self.busy = 0.0  # seconds of all workers together
        self.done = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def start(self):
        self.runner = web.ServerRunner(web.Server(self.handle, access_log=None))
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, backlog=4096).start()
        return self

    async def stop(self):
        await self.runner.cleanup()

    async def handle(self, request):
        kind, *names = request.raw_path.lstrip("/").split("/")
        await request.read()
        if kind == "connect":
            return web.json_response("ok")
        if kind != "call":
            return web.Response(status=204)
        try:
            await asyncio.wait_for(self.free.acquire(), self.patience)
        except asyncio.TimeoutError:
            return web.Response(status=503, headers={"No-Workers": "true"})
        started = time.monotonic()
        try:
            self.runs[tuple(names[1:])] += 1
            await asyncio.sleep(self.seconds)
            return web.json_response({})
        finally:
            self.busy += time.monotonic() - started
            self.done += 1
            self.free.release()
