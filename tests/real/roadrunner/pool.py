"""Stands in for RoadRunner where the real one is not: HTTP/1.1 before, workers behind pipes. python pool.py HOST:PORT WORKERS COMMAND…

It speaks the same frames as tests/real/roadrunner/relay.php, so that examples/roadrunner/worker.php runs unchanged; a worker that ends
is started again. It shows what the worker does, not what RoadRunner does: tests/real/scene_roadrunner.py plays with that.
"""

import asyncio
import json
import os
import struct
import sys
import zlib

from aiohttp import web

CONTROL, JSON, PROTOBUF = 0x01, 0x08, 0x80


def varint(number):
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(parts) + bytes([number])


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message):
    """Pairs of number and value."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag, value = number(), number()
        if tag & 7 == 2:
            value, at = message[at : at + value], at + value
        yield tag >> 3, value


def frame(flags, payload, *options):
    start = struct.pack("<BBI", 0x10 | 3 + len(options), flags, len(payload))
    return start + struct.pack("<IH", zlib.crc32(start), 0) + struct.pack(f"<{len(options)}I", *options) + payload


class Worker:
    async def start(self, command):
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        _, payload = await self.ask(frame(CONTROL | JSON, json.dumps({"pid": os.getpid()}).encode()))
        assert json.loads(payload)["pid"] == self.process.pid
        return self

    async def ask(self, request):
        """Options and payload of the answer."""
        self.process.stdin.write(request)
        await self.process.stdin.drain()
        start = await self.process.stdout.readexactly(12)
        first, _, length, crc, _ = struct.unpack("<BBIIH", start)
        assert crc == zlib.crc32(start[:6]), start
        words = (first & 0x0F) - 3
        options = struct.unpack(f"<{words}I", await self.process.stdout.readexactly(4 * words))
        return options, await self.process.stdout.readexactly(length)

    async def exchange(self, request, body):
        """Status, headers, body."""
        context = field(1, request.remote.encode()) + field(2, b"HTTP/1.1") + field(3, request.method.encode())
        context += field(4, f"http://{request.host}{request.raw_path}".encode())
        for name in dict.fromkeys(request.headers):
            values = b"".join(field(1, value.encode()) for value in request.headers.getall(name))
            context += field(5, field(1, name.encode()) + field(2, values))
        (length,), payload = await self.ask(frame(PROTOBUF, context + body, len(context)))
        status, headers = None, []
        for number, value in fields(payload[:length]):
            if number == 1:
                status = value
            elif number == 2:
                entry = dict(fields(value))
                headers += [(entry[1].decode(), line.decode()) for _, line in fields(entry[2])]
        return status, headers, payload[length:]


async def main(address, count, *command):
    host, port = address.split(":")
    free = asyncio.Queue()
    for worker in await asyncio.gather(*(Worker().start(command) for _ in range(int(count)))):
        free.put_nowait(worker)

    async def handle(request):
        body = await request.read()
        worker = await free.get()
        try:
            status, headers, body = await worker.exchange(request, body)
        except (OSError, asyncio.IncompleteReadError):
            worker = await Worker().start(command)
            status, headers, body = 503, [], b""
        finally:
            free.put_nowait(worker)
        response = web.Response(status=status, headers=headers, body=body)
        if body:
            # As RoadRunner has it.
            response.enable_chunked_encoding()
        return response

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, host, int(port), backlog=1024).start()
    await asyncio.get_running_loop().create_future()


asyncio.run(main(*sys.argv[1:]))
