"""Plays a client as a charge point is one: Calls one at a time, answers to pushes, and back again when it is cut off."""

import asyncio
import itertools
import json
import random
from urllib.parse import quote

import aiohttp
from yarl import URL

from stage import DEADLINE


class Refused(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, error):
        super().__init__(f"{error.status} {error.message}")
        self.status = error.status
        self.headers = error.headers or {}


class Station:
    """`base`: `ws://…` or `wss://…` without the ClientId. `path`: how the id is written, if not in the usual way."""

    numbers = itertools.count(1)

    def __init__(self, session, base, name, path=None, ssl=None, headers=None, subprotocol="ocpp1.6", compresses=True):
        self.session = session
        self.url = URL(f"{base}/{path or quote(name, safe='')}", encoded=True)
        self.name = name
        self.ssl = ssl
        self.headers = headers
        self.subprotocol = subprotocol
        self.compresses = compresses
        self.socket = None
        self.reader = None
        self.pushes = {}  # MessageId of a push to its payload
        self.is_mute = False  # answers no pushes on this connection
        self.refuses = False  # answers pushes with a CallError
        self.answer_after = 0.0  # seconds
        self.push_repeats = 0
        self.answering = set()
        self.waiting = {}  # MessageId of a Call to the future of its answer
        self.answers = 0
        self.strays = []  # answers that nobody waits for
        self.closes = []  # close codes
        self.connects = 0

    async def connect(self):
        protocols = [self.subprotocol] if self.subprotocol else []
        try:
            self.socket = await self.session.ws_connect(
                self.url,
                ssl=self.ssl,
                headers=self.headers,
                protocols=protocols,
                autoping=True,
                # Unless told otherwise it offers compression, as most libraries do, and compresses what it sends.
                compress=15 if self.compresses else 0,
                timeout=aiohttp.ClientWSTimeout(ws_close=5),
            )
        except aiohttp.WSServerHandshakeError as error:
            raise Refused(error) from None
        assert self.socket.protocol == self.subprotocol, self.socket.protocol
        assert self.socket.compress or not self.compresses, "compression is let through by whoever is before us"
        self.connects += 1
        self.is_mute = False
        self.reader = asyncio.create_task(self.read())
        return self

    async def read(self):
        async for message in self.socket:
            frame = json.loads(message.data)
            if frame[0] == 2:
                self.push_repeats += frame[1] in self.pushes
                self.pushes[frame[1]] = frame[3]
                if not self.is_mute:
                    answering = asyncio.create_task(self.answer(frame[1]))
                    self.answering.add(answering)
                    answering.add_done_callback(self.answering.discard)
                continue
            future = self.waiting.pop(frame[1], None)
            if future is None or future.done():
                self.strays.append(frame)
            else:
                future.set_result(frame)
        self.closes.append(self.socket.close_code)
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(ConnectionError("the connection ended"))
        self.waiting.clear()

    async def answer(self, message_id):
        await asyncio.sleep(self.answer_after)
        answer = [4, message_id, "NotSupported", "not this one", {}] if self.refuses else [3, message_id, {"status": "Accepted"}]
        try:
            await self.socket.send_str(json.dumps(answer))
        except (ConnectionError, aiohttp.ClientError):
            pass  # The connection has ended, which read() notes.

    async def call(self, action, payload):
        """The answer's frame; ConnectionError if the connection ended before it came."""
        message_id = f"c{next(self.numbers)}"
        future = asyncio.get_running_loop().create_future()
        self.waiting[message_id] = future
        try:
            await self.socket.send_str(json.dumps([2, message_id, action, payload]))
        except (ConnectionError, aiohttp.ClientError):
            self.waiting.pop(message_id, None)
            raise ConnectionError("the connection ended") from None
        if self.reader.done() and not future.done():
            # It had ended before the Call was written: nobody is left to say so.
            raise ConnectionError("the connection ended")
        frame = await asyncio.wait_for(future, DEADLINE)
        self.answers += 1
        return frame

    async def echo(self, size=0):
        """A Call whose answer has to be its own payload."""
        payload = {"number": self.answers, "name": self.name, "pad": "x" * size}
        frame = await self.call("Echo", payload)
        assert frame[0] == 3 and frame[2] == payload, frame

    async def live(self, end, pause=1.0):
        """Calls from time to time, and connects again whenever it is cut off, until `end` is set."""
        while not end.is_set():
            try:
                if self.reader.done():
                    await self.connect()
                await self.echo()
                await wait_at_most(end, pause * random.uniform(0.5, 1.5))
            except (ConnectionError, Refused, aiohttp.ClientError):
                await wait_at_most(end, random.uniform(0.1, 0.5))

    async def close(self):
        if self.socket is not None and not self.socket.closed:
            await self.socket.close()
        if self.reader is not None:
            await self.reader


async def wait_at_most(event, seconds):
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        pass


class Pusher:
    """Pushes as a backend does."""

    numbers = itertools.count(1)

    def __init__(self, session, ingress, token=None):
        self.session = session
        self.ingress = ingress
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.accepted = []
        self.refused = {}  # status to how many

    async def push(self, client, action="Reset", payload=None, wait=None):
        """Status, body and MessageId."""
        message_id = f"p{next(self.numbers)}"
        names = "/".join(quote(name, safe="") for name in (action, client, message_id))
        url = URL(f"{self.ingress}/call/{names}", encoded=True)
        headers = {**self.headers, **({"Prefer": f"wait={wait}"} if wait else {})}
        body = {"type": "Soft"} if payload is None else payload
        async with self.session.post(url, json=body, headers=headers) as answer:
            body = await answer.json(content_type=None)
            if answer.status == 202:
                self.accepted.append(message_id)
            elif answer.status >= 400:
                self.refused[answer.status] = self.refused.get(answer.status, 0) + 1
            return answer.status, body, message_id

    async def get(self, path):
        async with self.session.get(URL(f"{self.ingress}{path}", encoded=True), headers=self.headers) as answer:
            return answer.status, await answer.json(content_type=None)
