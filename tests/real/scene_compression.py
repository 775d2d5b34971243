"""Connects real clients that compress, with every offer that they can make: thousands of messages of all sizes each way, also
over a second connection. What is agreed on is what was offered and configured, and each message arrives as it was sent."""

import asyncio
import itertools
import json
import os
import random
import re
import statistics
import time
import uuid
import zlib

import aiohttp
import websockets
from ocpp import v16
from websockets.exceptions import NegotiationError
from websockets.extensions.base import ClientExtensionFactory
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from node import Node
from recorder import Recorder
from scene_clients import browse
from stage import ROOT
from station import Pusher

BITS = 11  # deflate_window is 2 KiB
TEXT = "Energy.Active.Import.Register Outlet Sample.Periodic Wh "


async def play(stage, long=False):
    count = 10_000 if long else 1_000
    backend = await Backend(stage).start()
    node = await Node(stage, "ws2api", ["--backend", backend.url]).start()
    async with aiohttp.ClientSession() as session:
        pusher = Pusher(session, node.url("ingress"))
        for number, (options, agreed) in enumerate(OFFERS_OF_WS):
            # Who is declined is a client like any other.
            await play_ws(stage, node, pusher, f"WS{number}", options, agreed, count if agreed else count // 10)
        await play_rpc(stage, node, pusher, count)
        for number, (factories, agreed) in enumerate(offers_of_websockets()):
            await play_websockets(stage, node, pusher, f"PY{number}", factories, agreed, count if agreed else count // 10)
        await play_ocpp(stage, node, count)
        await play_chromium(stage, node, pusher, count)
        await play_cost(stage, session, node, count)
        stage.say("counted: " + ", ".join(f"{name} {value}" for name, value in await savings(session, node)))
    await node.stop()
    await backend.stop()


class Backend(Recorder):
    """Echoes, but what OCPP's schemas want otherwise."""

    async def handle(self, request):
        if request.raw_path.startswith("/call/MeterValues/"):
            await request.read()
            return aiohttp.web.json_response({})
        return await super().handle(request)


async def push_while(pusher, client, is_over):
    """Pushes one after the other, each with an answer that has to be its own payload; how many there were."""
    count, dice = 0, random.Random(client)
    while not is_over():
        payload = {"pad": TEXT * dice.choice((0, 1, 10, 40, 1500)), "noise": dice.randbytes(dice.choice((0, 3, 300))).hex()}
        status, body, _ = await pusher.push(client, "Echo", payload, wait=30)
        if status == 200:
            assert body == payload, f"{client}: {body}"
            count += 1
        else:
            # It is between its two connections, or has gone.
            assert status in (202, 404, 502, 503, 504), (status, body)
            await asyncio.sleep(0.01)
    return count


# What npm's ws offers, and what it then has to agree on with us.
BOTH = {"server_max_window_bits": BITS, "client_max_window_bits": BITS}
OFFERS_OF_WS = [
    ({}, BOTH),
    ({"serverNoContextTakeover": True}, {**BOTH, "server_no_context_takeover": True}),
    ({"clientNoContextTakeover": True}, {"server_max_window_bits": BITS, "client_no_context_takeover": True}),
    ({"clientMaxWindowBits": 9}, {**BOTH, "client_max_window_bits": 9}),
    ({"serverMaxWindowBits": 9}, {**BOTH, "server_max_window_bits": 9}),
    ({"serverMaxWindowBits": 15, "clientMaxWindowBits": 15}, BOTH),
    ({"clientMaxWindowBits": 8}, None),
    ({"serverMaxWindowBits": 8}, None),
]


async def play_ws(stage, node, pusher, client, options, agreed, count):
    path = ROOT / "tests/real/clients/compressed.cjs"
    environment = {"NODE_PATH": os.environ["REAL_WORLD_NODE_PATH"]}
    command = ["node", path, f"{node.listen}/{client}", count // 2, json.dumps(options)]
    process = await stage.start(client, *command, env=environment)
    pushed = await push_while(pusher, client, lambda: process.process.returncode is not None)
    output = process.output()
    assert process.process.returncode == 0 and output.endswith("done\n"), output
    said = [json.loads(line[7:]) for line in output.splitlines() if line.startswith("agreed ")]
    assert said == [agreed] * 2, f"{options}: {said}"
    stage.say(f"npm ws, {options}: agreed on {agreed}; {count} Calls and {pushed} pushes")


async def play_rpc(stage, node, pusher, count):
    path = ROOT / "tests/real/clients/ocpp_rpc_compressed.cjs"
    environment = {"NODE_PATH": os.environ["REAL_WORLD_NODE_PATH"]}
    process = await stage.start("rpc", "node", path, node.listen, "RPC", count // 2, env=environment)
    pushed = await push_while(pusher, "RPC", lambda: process.process.returncode is not None)
    output = process.output()
    assert process.process.returncode == 0 and output.endswith("done\n"), output
    assert output.count("agreed permessage-deflate") == 2, output
    stage.say(f"npm ocpp-rpc: {count} Calls and {pushed} pushes")


class Offer(ClientExtensionFactory):
    """An offer that no library would make; it must not be the one that is answered."""

    name = ClientPerMessageDeflateFactory.name

    def __init__(self, *parameters):
        self.parameters = parameters

    def get_request_params(self):
        return self.parameters

    def process_response_params(self, params, accepted_extensions):
        raise NegotiationError(f"answered with {params}")


def offers_of_websockets():
    """What is offered; then, as websockets knows it: the server forgets, the client forgets, the server's bits, the client's."""
    ours = ClientPerMessageDeflateFactory
    small = {"memLevel": 1, "level": 1}
    return [
        ([ours()], (False, False, BITS, BITS)),
        ([ours(client_max_window_bits=None)], (False, True, BITS, 15)),
        ([ours(server_no_context_takeover=True, client_no_context_takeover=True)], (True, True, BITS, 15)),
        ([ours(server_max_window_bits=9, client_max_window_bits=9)], (False, False, 9, 9)),
        ([ours(client_max_window_bits=10, compress_settings=small)], (False, False, BITS, 10)),
        ([ours(server_max_window_bits=8)], None),
        ([Offer(("client_max_window_bits", "8"))], None),
        ([Offer(("client_max_window_bits", None), ("client_max_window_bits", "10"))], None),
        ([Offer(("server_no_context_takeover", None), ("server_no_context_takeover", None))], None),
        ([Offer(("unknown", "1"))], None),
        ([Offer(("server_max_window_bits", "16"))], None),
        ([Offer(("unknown", None)), Offer(("server_max_window_bits", "8")), ours()], (False, False, BITS, BITS)),
    ]


async def play_websockets(stage, node, pusher, client, factories, agreed, count):
    dice = random.Random(client)
    offers = [f"{factory.name}; {factory.get_request_params()}" for factory in factories]

    async def talk():
        for _ in range(2):
            async with websockets.connect(
                f"{node.listen}/{client}", subprotocols=["ocpp1.6"], compression=None, extensions=factories, max_size=None
            ) as socket:
                found = [
                    (
                        extension.remote_no_context_takeover,
                        extension.local_no_context_takeover,
                        extension.remote_max_window_bits,
                        extension.local_max_window_bits,
                    )
                    for extension in socket.protocol.extensions
                ]
                assert found == ([agreed] if agreed else []), f"{offers}: {found}"
                for number in range(count // 2):
                    pad = TEXT * dice.choice((0, 1, 10, 40, 1500))
                    payload = json.dumps({"pad": pad, "noise": dice.randbytes(dice.choice((0, 300))).hex()})
                    call = f'[2,"{number}","Echo",{payload}]'
                    # In fragments, now and then.
                    await socket.send([call[:99], call[99:]] if number % 10 == 0 else call)
                    while True:
                        text = await socket.recv()
                        if not text.startswith("[2,"):
                            break
                        frame = json.loads(text)
                        await socket.send(json.dumps([3, frame[1], frame[3]]))
                    assert text == f'[3,"{number}",{payload}]', text[:200]

    talking = asyncio.create_task(talk())
    pushed = await push_while(pusher, client, talking.done)
    await talking
    stage.say(f"PyPI websockets, {offers}: agreed on {agreed}; {count} Calls and {pushed} pushes")


async def play_ocpp(stage, node, count):
    for _ in range(2):
        async with websockets.connect(f"{node.listen}/OCPP", subprotocols=["ocpp1.6"]) as socket:
            assert socket.protocol.extensions, "compression is on by default"
            point = v16.ChargePoint("OCPP", socket)
            listening = asyncio.create_task(point.start())
            for number in range(count // 4):
                sample = {"value": str(number), "measurand": "Energy.Active.Import.Register", "unit": "Wh"}
                values = [{"timestamp": "2026-11-22T22:06:11Z", "sampledValue": [sample] * (number % 12 + 1)}]
                await point.call(v16.call.MeterValues(connector_id=1, meter_value=values))
            listening.cancel()
    stage.say(f"PyPI ocpp: {count // 2} MeterValues")


async def play_chromium(stage, node, pusher, count):
    page = (ROOT / "tests/real/clients/compressed.html").read_text()
    query = f"url={node.listen}/PAGE&count={count // 2}"
    ends = ("done", "failed")
    browsing = asyncio.create_task(browse(stage, stage.port(), query, lambda log: any(word in log for word in ends), page))
    pushed = await push_while(pusher, "PAGE", browsing.done)
    lines = (await browsing).splitlines()
    assert len(lines) == 3 and lines[2] == "done", lines
    assert all(line.startswith("agreed permessage-deflate") for line in lines[:2]), lines
    stage.say(f"Chromium: {lines[0]}; {count} Calls and {pushed} pushes")


def meter_values(dice, connector=1):
    """Calls like those of a charge point, one a minute."""
    energy = dice.randrange(1_000_000)
    for minute in itertools.count():
        energy += dice.randrange(5, 400)
        values = (
            ("Energy.Active.Import.Register", "Wh", str(energy)),
            ("Power.Active.Import", "W", f"{dice.uniform(3000, 11000):.1f}"),
            ("Current.Import", "A", f"{dice.uniform(10, 16):.2f}"),
            ("Voltage", "V", f"{dice.uniform(228, 232):.1f}"),
            ("SoC", "Percent", str(dice.randrange(20, 90))),
        )
        samples = [
            {"value": value, "context": "Sample.Periodic", "format": "Raw", "measurand": what, "location": "Outlet", "unit": unit}
            for what, unit, value in values
        ]
        stamp = f"2026-11-22T{minute // 60 % 24:02}:{minute % 60:02}:{dice.randrange(60):02}.{dice.randrange(1000):03}Z"
        payload = {"connectorId": connector, "transactionId": 4711, "meterValue": [{"timestamp": stamp, "sampledValue": samples}]}
        yield json.dumps([2, str(uuid.UUID(int=dice.getrandbits(128))), "MeterValues", payload], separators=(",", ":"))


def shares():
    """What zlib leaves of 3,000 of them, in percent, by the bits of the window; and without context."""
    messages = [text.encode() for text in itertools.islice(meter_values(random.Random(1)), 3000)]
    plain = sum(map(len, messages))

    def share(bits, keeps):
        left = 0
        for number, message in enumerate(messages):
            if number == 0 or not keeps:
                stream = zlib.compressobj(wbits=-bits)
            left += len(stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH)) - 4
        return round(100 * left / plain, 1)

    return plain / len(messages), {bits: share(bits, True) for bits in range(9, 16)}, share(15, False)


async def play_cost(stage, session, node, count):
    """What MeterValues cost the proxy, plain and compressed, in turns, with 20 clients that have one under way each. The CPU time
    is a figure only if the program was built for figures."""
    mean, by_bits, alone = shares()
    stage.say(f"zlib leaves of MeterValues of {mean:.0f} bytes, in %: {by_bits} by the bits of the window; without context {alone}")
    protocols = {"subprotocols": ["ocpp1.6"], "max_size": None}
    kinds = {
        "plain": {"compression": None},
        "compressed": {"compression": None, "extensions": [ClientPerMessageDeflateFactory()]},
    }
    sockets = {
        kind: [await websockets.connect(f"{node.listen}/COST-{kind}{n}", **options, **protocols) for n in range(20)]
        for kind, options in kinds.items()
    }
    # Made before, so that the client is no slower than it must be.
    calls = [list(itertools.islice(meter_values(random.Random(seed)), count // 20)) for seed in range(20)]
    spent = {kind: [] for kind in kinds}

    def cpu():
        # The process' own clock (clock_getcpuclockid): what /proc says comes in steps of 10 ms.
        return time.clock_gettime(~node.process.process.pid << 3 | 2)

    async def talk(socket, texts):
        for text in texts:
            await socket.send(text)
            await socket.recv()

    before = await savings(session, node)
    for _ in range(10):
        for kind in kinds:
            started = cpu()
            await asyncio.gather(*(talk(*pair) for pair in zip(sockets[kind], calls)))
            spent[kind].append(1e6 * (cpu() - started) / (count // 20 * 20))
    counted = [(name, now - then) for (name, then), (_, now) in zip(before, await savings(session, node))]
    compressed, plain = (
        sum(count for name, count in counted if f'direction="in",form="{form}"' in name) for form in ("compressed", "plain")
    )
    costs = {kind: f"{statistics.median(values):.1f} µs" for kind, values in spent.items()}
    more = statistics.median(b - a for a, b in zip(*spent.values()))
    stage.say(
        f"CPU of the proxy per MeterValues: {costs}, {more:+.1f} µs in the median of 10 pairs of turns; "
        f"{100 * compressed / plain:.1f} % on the wire"
    )
    for socket in itertools.chain.from_iterable(sockets.values()):
        await socket.close()


async def savings(session, node):
    """Name with labels, and value, of each counter of compression."""
    async with session.get(f"{node.url('admin')}/metrics") as answer:
        text = await answer.text()
    found = re.findall(r"^(ws2api_deflate_\w+\{[^}]*\}) (\d+)", text, re.MULTILINE)
    assert found, text
    return [(name, int(value)) for name, value in found]
