"""Connects other people's TLS to `listen_tls`: OpenSSL, sslyze, curl, Python's websockets and ocpp, Node.js' ws, Chromium."""

import asyncio
import os
import random
import re
import ssl
import statistics
import time

import aiohttp
import websockets
from aiohttp import web
from ocpp import v16, v201

import certificates
import tls_openssl
import tls_records
import tls_scan
from certificates import Authority, client_context
from node import Node
from scene_clients import browse
from scene_compression import push_while
from stage import DEADLINE, ROOT, until
from station import Pusher, Station
from tls_client import spki

SERVED = 20
FLOODERS = 40
FLOOD_SECONDS = 5


async def play(stage, long=False):
    servers, clients, strangers = [await Authority(stage, name).create() for name in ("servers", "clients", "strangers")]
    names = "DNS:localhost,IP:127.0.0.1"
    both = [await servers.issue("localhost", names, kind) for kind in (certificates.ECDSA, certificates.RSA)]
    listed = ", ".join(f'{{ chain = "{file}", key = "{file}" }}' for file in both)
    backend = await Backend().start(stage)
    arguments = [f"--backend={backend.url}", f"--set=tls_certificates=[{listed}]"]

    def verifying(auth):
        return [f"--set=tls_client_ca={clients.certificate}", f"--set=tls_client_auth={auth}"]

    node, port = await start(stage, "ws2api", [*arguments, *verifying("optional"), "--set=message_max=2MiB"])
    async with aiohttp.ClientSession() as session:
        metric = metric_of(session, node)
        base = f"wss://localhost:{port}"
        await tls_openssl.play(stage, port, servers, clients, strangers, backend)
        await tls_scan.play(stage, port, servers)
        await tls_records.play(stage, port, servers, backend, metric, long)
        await play_curl(stage, port, servers)
        await play_python(stage, base, servers, clients, backend)
        await play_node(stage, base, servers)
        await play_chromium(stage, session, arguments, base, both)
        outcomes = {name: await metric("ws2api_tls_handshakes_total", f'outcome="{name}"') for name in OUTCOMES}
        stage.say(f"counted: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items() if count)}")
        assert outcomes["internal"] == 0 and outcomes["resumed"] > 0, outcomes
    await node.stop()
    node, port = await start(stage, "required", [*arguments, *verifying("required")])
    await tls_openssl.play_required(stage, port, clients, servers)
    await node.stop()
    await play_flood(stage, arguments, servers)
    await backend.stop()


OUTCOMES = ("full", "resumed", "plain_http", "not_tls", "too_long", "incompatible", "certificate", "alert", "protocol", "internal")


async def start(stage, name, arguments):
    """A node with `listen_tls`, and the port of that."""
    ports = {key: stage.port() for key in ("listen", "ingress", "admin")}
    port = stage.port()
    node = Node(stage, name, [*arguments, f"--set=listen_tls=127.0.0.1:{port}"], ports=ports)
    return await node.start(), port


def metric_of(session, node):
    async def metric(name, label=""):
        async with session.get(f"{node.url('admin')}/metrics") as answer:
            lines = re.findall(rf"^{name}\{{.*{label}.*\}} (\d+)$", await answer.text(), re.MULTILINE)
        assert lines, name
        return sum(map(int, lines))

    return metric


class Backend:
    """Lets everybody in, echoes, and remembers what it is told of each client."""

    def __init__(self):
        self.told = {}
        self.ended = set()

    async def start(self, stage):
        application = web.Application(client_max_size=4 << 20)
        application.add_routes([web.post("/{tail:.*}", self.handle)])
        self.runner = web.AppRunner(application, access_log=None)
        await self.runner.setup()
        port = stage.port()
        await web.TCPSite(self.runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def stop(self):
        await self.runner.cleanup()

    async def handle(self, request):
        kind, *rest = request.path.strip("/").split("/")
        if kind == "connect":
            self.told[request.headers["X-Client-Id"]] = dict(request.headers)
            return web.json_response("ok")
        if kind == "disconnect":
            self.ended.add(request.headers["X-Client-Id"])
        if kind == "call" and rest[0] == "BootNotification":
            return web.json_response({"currentTime": "2030-01-01T00:00:00Z", "interval": 300, "status": "Accepted"})
        return web.Response(body=await request.read(), content_type="application/json")

    async def expect_disconnect(self, client):
        await until(f"the end of {client}", lambda: client in self.ended)


async def play_curl(stage, port, servers):
    url = f"https://localhost:{port}/"
    output = await stage.run(
        "curl", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{ssl_verify_result}", "--cacert", servers.certificate, url
    )
    assert output.endswith("400 0"), output
    output = await stage.run("curl", "curl", "-sS", "-w", "%{http_code}", f"http://localhost:{port}/")
    assert output.endswith("400") and "wss://" in output, output
    stage.say("curl: a good certificate; plain HTTP at the port is told so")


async def play_python(stage, base, servers, clients, backend):
    for name, certificate in (("PY1", None), ("PY2", await clients.issue("PY2", "DNS:py2.example"))):
        for protocol, version in (("ocpp1.6", v16), ("ocpp2.0.1", v201)):
            context = client_context(servers, certificate)
            async with websockets.connect(f"{base}/{name}", subprotocols=[protocol], ssl=context) as socket:
                point = version.ChargePoint(name, socket)
                listening = asyncio.create_task(point.start())
                if version is v16:
                    request = v16.call.BootNotification(charge_point_model="M", charge_point_vendor="V")
                else:
                    request = v201.call.BootNotification(charging_station={"model": "M", "vendor_name": "V"}, reason="PowerUp")
                boot = await point.call(request)
                assert boot.status == "Accepted", boot
                listening.cancel()
    assert backend.told["PY2"]["X-Client-Cert-Cn"] == "PY2", backend.told["PY2"]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(servers)
        context.minimum_version = context.maximum_version = version
        async with websockets.connect(f"{base}/PY3", ssl=context, max_size=None) as socket:
            for length in (0, 1, 16_000, 16_384, 100_000, 900_000):
                text = f'{{"s":"{"z" * length}"}}'
                await socket.send(f'[2,"{length}","Echo",{text}]')
                assert await socket.recv() == f'[3,"{length}",{text}]'
    stage.say("PyPI ocpp (1.6, 2.0.1) and websockets: booted, with a client certificate, too; messages of every size, TLS 1.2 and 1.3")


async def play_node(stage, base, servers):
    script = ROOT / "tests/real/clients/ws_tls.cjs"
    environment = {"NODE_PATH": os.environ["REAL_WORLD_NODE_PATH"], "NODE_EXTRA_CA_CERTS": str(servers.certificate)}
    for suite in (*tls_openssl.TLS13, *tls_openssl.TLS12):
        output = await stage.run("ws_tls.cjs", "node", script, f"{base}/NODE", suite, env=environment)
        lines = [line.split() for line in output.splitlines()]
        # The second connection goes on with the first one's session.
        assert lines == [["secure", suite, "full"], ["closed", "1000"], ["secure", suite, "resumed"], ["closed", "1000"]], output
    stage.say("npm ws: with each of nine suites two connections, the second resumed; messages of every size, compressed; an orderly end")


async def play_chromium(stage, session, arguments, asking, certificates):
    """`asking` wants to see a certificate of the client's. That a browser can show none to a WebSocket is why it has a node of its own."""
    node, port = await start(stage, "for-browsers", arguments)
    base, pusher, metric = f"wss://localhost:{port}", Pusher(session, node.url("ingress")), metric_of(session, node)
    page = (ROOT / "tests/real/clients/compressed.html").read_text()
    count = 80
    query = f"url={base}/PAGE&count={count // 4}&reload=1"
    trusted = ",".join(spki(certificate) for certificate in certificates)
    more = [f"--ignore-certificate-errors-spki-list={trusted}"]
    before = await metric("ws2api_tls_handshakes_total", 'outcome="resumed"')
    is_over = lambda log: any(word in log for word in ("done", "failed"))
    browsing = asyncio.create_task(browse(stage, stage.port(), query, is_over, page, more, 3 * DEADLINE))
    pushed = await push_while(pusher, "PAGE", browsing.done)
    lines = (await browsing).splitlines()
    resumed = await metric("ws2api_tls_handshakes_total", 'outcome="resumed"') - before
    assert len(lines) == 6 and lines[2] == "loaded again" and lines[5] == "done", lines
    assert all(lines[index].startswith("agreed permessage-deflate") for index in (0, 1, 3, 4)), lines
    assert pushed > 0 and resumed > 0, (pushed, resumed)
    stage.say(f"Chromium: {count} Calls over 4 connections, {resumed} of them resumed, with a reload between; {lines[0]}; {pushed} pushes")
    # It ends the handshake where it is asked for a certificate, and where it is told of nobody whom it should trust.
    for url, flags in ((asking, more), (base, ())):
        log = await browse(stage, stage.port(), f"url={url}/PAGE&count=1", lambda log: "failed" in log, page, flags)
        assert "closed with 1006" in log, log
    assert await metric("ws2api_tls_handshakes_total", 'outcome="alert"') > 0
    await node.stop()
    stage.say("Chromium: no connection to who is not trusted, nor with tls_client_auth = optional")


async def play_flood(stage, arguments, servers):
    """Handshakes without end, of three kinds at once, beside clients that behave: how much longer their Calls take."""
    bounds = ["--set=handshakes_max=64", "--set=tls_handshakes_per_second_max=200"]
    node, port = await start(stage, "flooded", [*arguments, *bounds])
    context = client_context(servers)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        stations = [Station(session, f"wss://localhost:{port}", f"F{number}", ssl=context) for number in range(SERVED)]
        for station in stations:
            await station.connect()
        calm = await call_for(stations, FLOOD_SECONDS)
        over, made = asyncio.Event(), [0]
        flooding = [asyncio.create_task(flood(port, kind % 3, context, over, made)) for kind in range(FLOODERS)]
        flooded = await call_for(stations, FLOOD_SECONDS)
        over.set()
        await asyncio.gather(*flooding)
        assert not any(station.closes for station in stations), "a client was cut off"
        async with session.get(f"{node.url('admin')}/metrics") as answer:
            refused = re.findall(r'^ws2api_upgrades_refused_total\{.*reason="(\w+)"\} ([1-9]\d*)$', await answer.text(), re.MULTILINE)
        await asyncio.gather(*(station.close() for station in stations))
    assert refused and made[0] > 200, (refused, made)
    ratio = statistics.median(flooded) / statistics.median(calm)
    stage.say(
        f"{made[0]} handshakes in {FLOOD_SECONDS} s that come to nothing ({', '.join(' '.join(pair) for pair in refused)}) beside {SERVED} "
        f"clients: {len(flooded)} Calls, none failed; median {1e3 * statistics.median(flooded):.1f} ms, {ratio:.1f} times that without"
    )
    assert max(flooded) < 10, max(flooded)
    await node.stop()


async def call_for(stations, seconds):
    """Seconds that each Call took."""
    times = []

    async def call(station):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.monotonic()
            await station.echo()
            times.append(time.monotonic() - started)
            await asyncio.sleep(0.02)

    await asyncio.gather(*map(call, stations))
    return times


async def flood(port, kind, context, over, made):
    dice = random.Random(kind)
    sketch = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), sketch, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        hello = sketch.read()
    while not over.is_set():
        try:
            if kind == 0:
                # In full, and gone.
                _, writer = await asyncio.wait_for(
                    asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost"), DEADLINE
                )
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(hello if kind == 1 else hello[: dice.randrange(1, len(hello))])
                if kind == 1:
                    # Its part is computed; ours never comes.
                    await asyncio.wait_for(reader.read(1), DEADLINE)
            writer.close()
        except (OSError, ssl.SSLError):
            pass
        made[0] += 1
        await asyncio.sleep(0.01)
