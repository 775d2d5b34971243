"""Records by OpenSSL: of every size, with every suite, byte by byte, cut off, forged; and what is none at all."""

import asyncio
import random
import ssl

from certificates import client_context
from stage import until
from tls_client import Records, frame, handshake
from tls_openssl import TLS12

RECORD_MAX = 16_384
# A frame's head, `[3,"000000",{"s":""}]`.
AROUND = 4 + 21


def contexts(authority):
    """Name and context, for each suite that Python can choose."""
    for suite in TLS12:
        context = client_context(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)
        yield suite, context
    context = client_context(authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    yield "TLSv1.3", context


async def play(stage, port, authority, backend, metric, long):
    every = sorted({*range(1, 300), *range(300, RECORD_MAX, 97), *range(RECORD_MAX - 40, RECORD_MAX + 1)})
    sizes = range(1, RECORD_MAX + 1) if long else every
    for number, (name, context) in enumerate(contexts(authority)):
        await play_sizes(port, context, f"SIZES{number}", sizes)
    stage.say(f"records of {len(sizes)} sizes, 1 to {RECORD_MAX} bytes, both ways with {number + 1} suites: each answer its own payload")
    for number, context in enumerate(versions(authority)):
        await play_drips(port, context, f"DRIPS{number}")
        await play_ends(port, context, f"ENDS{number}", backend)
    stage.say("handshake, request and Calls a byte at a time both ways; ends: close_notify, a bare FIN, both, within a record, within a frame")
    before = await metric("ws2api_tls_records_bad_total")
    for number, context in enumerate(versions(authority)):
        count = await play_bad(port, context, f"BAD{number}", backend)
    assert await metric("ws2api_tls_records_bad_total") == before + 2 * count
    stage.say(f"records that are none: {count} kinds, each with its alert, counted, nobody else touched")
    await play_garbage(stage, port, authority)


def versions(authority):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(authority)
        context.minimum_version = context.maximum_version = version
        yield context


async def play_sizes(port, context, name, sizes):
    """Calls whose answers are records of these sizes; what they are sent in are such records, too, wherever those begin and end."""
    client = await (await Records(context).connect(port)).open(name)
    dice = random.Random(name)
    answers = [f'{{"s":"{"r" * max(0, size - AROUND)}"}}' for size in sizes]
    dice.shuffle(answers)
    stream = b"".join(frame(f'[2,"{number:06}","Echo",{payload}]') for number, payload in enumerate(answers))
    own = list(sizes)
    dice.shuffle(own)

    async def say():
        start = 0
        for size in own + [1000] * (len(stream) // 1000):
            if start >= len(stream):
                break
            await client.write(stream[start : start + size])
            start += size
        assert start >= len(stream)

    saying = asyncio.create_task(say())
    for number, payload in enumerate(answers):
        opcode, answer = await client.message()
        assert (opcode, answer) == (1, f'[3,"{number:06}",{payload}]'.encode()), (name, number, answer[:100])
    await saying
    client.close()


async def play_drips(port, context, name):
    client = await Records(context, piece=1).connect(port, drips=True)
    await client.open(name)
    for number, length in enumerate((0, 1, 100, 2000)):
        await client.call(str(number), f'{{"s":"{"d" * length}"}}')
    client.close()


async def play_ends(port, context, name, backend):
    call = frame('[2,"last","Echo",{}]')
    for number, way in enumerate(("close_notify", "fin", "both", "record", "frame")):
        own = f"{name}-{number}"
        client = await (await Records(context).connect(port)).open(own)
        await client.call("1")
        if way == "record":
            await client.send(client.seal(call)[:-3])
        elif way == "frame":
            await client.write(call[:-3])
        else:
            await client.write(call)
        if way in ("close_notify", "both"):
            try:
                client.tls.unwrap()
            except ssl.SSLWantReadError:
                pass  # Ours has been said, the other one's not.
            await client.send(client.outgoing.read())
        if way != "close_notify":
            client.finish()
        # That our side ends is told, by the word and by TCP.
        while piece := await asyncio.wait_for(client.reader.read(65536), 60):
            client.incoming.write(piece)
        client.incoming.write_eof()
        try:
            while client.tls.read(65536):
                pass
        except ssl.SSLZeroReturnError:
            pass
        await backend.expect_disconnect(own)
        client.close()


async def play_bad(port, context, name, backend):
    """Behind a good conversation, each fault and the alert that tells it. How many."""
    is_13 = context.minimum_version == ssl.TLSVersion.TLSv1_3
    good = lambda client: client.seal(frame('[2,"2","Echo",{}]'))
    flipped = lambda record, place: record[:place] + bytes([record[place] ^ 1]) + record[place + 1 :]
    kinds = [
        (lambda client: flipped(good(client), 9), "BAD_RECORD_MAC"),
        (lambda client: bytes([23, 3, 3, 0, 40]) + bytes(40), "BAD_RECORD_MAC"),
        (lambda client: bytes([23, 3, 3, 0, 3]) + bytes(3), "BAD_RECORD_MAC"),
        # Left out, and so another one's turn.
        (lambda client: good(client)[:0] + good(client), "BAD_RECORD_MAC"),
        # Twice.
        (lambda client: good(client) * 2, "BAD_RECORD_MAC"),
        (lambda client: bytes([23, 3, 3, 0x41, 1]), "RECORD_OVERFLOW"),
        (lambda client: bytes([23, 3, 1, 0, 40]) + bytes(40), "PROTOCOL_VERSION"),
        (lambda client: bytes([99, 3, 3, 0, 40]) + bytes(40), "UNEXPECTED_MESSAGE"),
        (lambda client: bytes([23, 3, 3, 0, 0]), "DECODE_ERROR"),
        (lambda client: b"GET /again HTTP/1.1\r\n\r\n", "UNEXPECTED_MESSAGE"),
        (lambda client: bytes([20, 3, 3, 0, 1, 1]), "UNEXPECTED_MESSAGE" if is_13 else "BAD_RECORD_MAC"),
        (lambda client: bytes([21, 3, 3, 0, 2, 2, 40]), "UNEXPECTED_MESSAGE" if is_13 else "BAD_RECORD_MAC"),
    ]
    other = await (await Records(context).connect(port)).open(f"{name}-OTHER")
    for number, (bad, alert) in enumerate(kinds):
        own = f"{name}-{number}"
        client = await (await Records(context).connect(port)).open(own)
        await client.call("1")
        await client.send(bad(client))
        try:
            rest = await client.rest()
            raise AssertionError(f"{alert} was due: {rest[:200]}")
        except ssl.SSLError as error:
            assert alert in str(error), (number, error)
        await backend.expect_disconnect(own)
        client.close()
        await other.call(str(number))
    other.close()
    return len(kinds)


async def play_garbage(stage, port, authority):
    """Before, in and behind a ClientHello, on raw sockets: an alert or the end, at once, and others are served meanwhile."""
    context = client_context(authority)
    other = await (await Records(context).connect(port)).open("SERVED")
    dice = random.Random(12)
    sketch = Records(context)
    try:
        sketch.tls.do_handshake()
    except ssl.SSLWantReadError:
        hello = sketch.outgoing.read()
    flipped = bytearray(hello)
    flipped[5] = 2  # a ServerHello
    cases = [
        b"\x00" * 64,
        b"\x16\x03\x01\xff\xff" + b"\x01" * 40,
        b"\x16\x03\x01\x00\x00",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x14\x03\x03\x00\x01\x01",
        b"\x17\x03\x03\x00\x05hello",
        b"\x80\x2e\x01\x00\x02",  # SSL 2
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + hello,
        b"\n" + hello,
        bytes(flipped),
        hello[:-9] + bytes(9),
        hello + hello,
        hello + b"\x17\x03\x03\x00\x20" + bytes(32),
        hello + dice.randbytes(500),
        *(dice.randbytes(dice.randrange(1, 600)) for _ in range(40)),
        # Of no ClientHello is more taken than this.
        b"".join(b"\x16\x03\x01\x40\x00" + (b"\x01\x00\xff\xff" if not n else b"") + bytes(16_384 - 4 * (not n)) for n in range(4)),
    ]
    answered = {"an alert": 0, "HTTP 400": 0, "the end": 0, "a ServerHello": 0}
    for number, case in enumerate(cases):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(case)
        answer = b""
        try:
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 60)
        except (ConnectionError, OSError):
            pass  # It was not read to the end.
        kind = {21: "an alert", 22: "a ServerHello", ord("H"): "HTTP 400"}.get(answer[0], answer) if answer else "the end"
        assert kind in answered, (case[:20], answer[:100])
        answered[kind] += 1
        writer.close()
        await other.call(str(number))
    other.close()
    stage.say(f"garbage in the place of a handshake, {len(cases)} kinds: {', '.join(f'{n} {kind}' for kind, n in answered.items())}")
