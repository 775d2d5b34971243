"""Speaks TLS by OpenSSL, in two ways: through Python, with its records in hand; and as `openssl s_client`, whose commands are letters."""

import asyncio
import base64
import hashlib
import os
import socket
import ssl
import struct
import subprocess

from stage import DEADLINE

HANDSHAKE = "\r\n".join(
    [
        "GET /{} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "",
        "",
    ]
)


def handshake(name):
    """A request for a WebSocket."""
    return HANDSHAKE.format(name).encode()


def frame(text, opcode=1):
    """One masked frame."""
    payload, mask = text.encode() if isinstance(text, str) else text, os.urandom(4)
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, length)
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")


class Records:
    """A connection under TLS. What it sends is given out as it travels, and what comes is given to OpenSSL in pieces of `piece` bytes."""

    def __init__(self, context, host="localhost", piece=65536):
        # An end that nobody has told is none.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self.piece = piece
        self.unread = b""  # came, and OpenSSL has not seen it
        self.plain = b""

    async def connect(self, port, drips=False):
        """Shakes hands; with `drips` a byte at a time."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.drips = drips
        await self.drive(self.tls.do_handshake)
        return self

    async def drive(self, step, *arguments):
        while True:
            try:
                result = step(*arguments)
                await self.send(self.outgoing.read())
                return result
            except ssl.SSLWantReadError:
                await self.send(self.outgoing.read())
                await self.feed()
            except ssl.SSLError:
                await self.send(self.outgoing.read())
                raise

    async def feed(self):
        if not self.unread:
            self.unread = await asyncio.wait_for(self.reader.read(65536), DEADLINE)
        if not self.unread:
            self.incoming.write_eof()
        piece, self.unread = self.unread[: self.piece], self.unread[self.piece :]
        self.incoming.write(piece)

    async def send(self, records):
        for piece in [bytes([byte]) for byte in records] if self.drips else [records]:
            self.writer.write(piece)
            await self.writer.drain()

    def seal(self, plain):
        """One record, if it is no longer than one can be."""
        assert self.tls.write(plain) == len(plain)
        return self.outgoing.read()

    async def write(self, plain):
        await self.send(self.seal(plain))

    async def read(self):
        """What comes next; none at the end that was told. ssl.SSLError at any other one."""
        try:
            return await self.drive(self.tls.read, 65536)
        except ssl.SSLZeroReturnError:
            return b""

    async def rest(self):
        """All, to the end."""
        while piece := await self.read():
            self.plain += piece
        return self.plain

    async def fill(self, length):
        while len(self.plain) < length:
            piece = await self.read()
            assert piece, f"it ended behind {self.plain[:200]}"
            self.plain += piece

    async def head(self):
        """The answer to a request, without what follows it."""
        while b"\r\n\r\n" not in self.plain:
            await self.fill(len(self.plain) + 1)
        head, self.plain = self.plain.split(b"\r\n\r\n", 1)
        return head.decode()

    async def open(self, name):
        """From here on it is a WebSocket."""
        await self.write(handshake(name))
        head = await self.head()
        assert head.startswith("HTTP/1.1 101 "), head
        return self

    async def message(self):
        """Opcode and payload."""
        await self.fill(2)
        length, start = self.plain[1], 2
        if length > 125:
            start = 4 if length == 126 else 10
            await self.fill(start)
            length = int.from_bytes(self.plain[2:start], "big")
        await self.fill(start + length)
        opcode, payload = self.plain[0] & 15, self.plain[start : start + length]
        self.plain = self.plain[start + length :]
        return opcode, payload

    async def call(self, message_id, payload="{}"):
        """A Call whose answer has to be its own payload."""
        await self.write(frame(f'[2,"{message_id}","Echo",{payload}]'))
        opcode, answer = await self.message()
        assert (opcode, answer) == (1, f'[3,"{message_id}",{payload}]'.encode()), answer[:200]

    def finish(self):
        """No more comes from here, says TCP."""
        self.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)

    def close(self):
        self.writer.close()


class SClient:
    """`openssl s_client`. What it is told comes from its output, what it and the server say to each other from its log."""

    def __init__(self, stage, port, *arguments):
        self.log = stage.folder / f"s_client-{len(list(stage.folder.iterdir()))}"
        target = ["-connect", f"127.0.0.1:{port}", "-servername", "localhost"]
        self.command = ["openssl", "s_client", *target, "-msg", "-msgfile", self.log, *arguments]
        self.output = b""

    async def start(self):
        pipe = asyncio.subprocess.PIPE
        command = map(str, self.command)
        self.process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
        return self

    async def send(self, text):
        self.process.stdin.write(text)
        await self.process.stdin.drain()

    async def expect(self, text):
        while text not in self.output:
            piece = await asyncio.wait_for(self.process.stdout.read(65536), DEADLINE)
            assert piece, f"{text} did not come:\n{self.text()}"
            self.output += piece

    async def open(self, name):
        await self.expect(b"Verify return code" if "-brief" not in self.command else b"Verification")
        await self.send(handshake(name))
        await self.expect(b"HTTP/1.1 101 ")
        return self

    async def end(self):
        """Waits for its end; its exit code."""
        while piece := await asyncio.wait_for(self.process.stdout.read(65536), DEADLINE):
            self.output += piece
        return await self.process.wait()

    async def finish(self):
        """Nothing more is said to it."""
        self.process.stdin.close()
        return await self.end()

    async def kill(self):
        try:
            self.process.kill()
        except ProcessLookupError:
            pass  # It has ended by itself.
        await self.process.wait()

    def text(self):
        return self.output.decode(errors="replace")

    def messages(self, direction, word):
        """The lines of that direction ("<<<" came from the server) with that word."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith(direction) and word in line]


def spki(pem):
    """How Chromium names the key of a certificate: SHA-256 of its SubjectPublicKeyInfo."""
    public = subprocess.run(["openssl", "x509", "-in", pem, "-noout", "-pubkey"], check=True, capture_output=True).stdout
    lines = [line for line in public.decode().splitlines() if not line.startswith("-----")]
    return base64.b64encode(hashlib.sha256(base64.b64decode("".join(lines))).digest()).decode()
