"""Connects real charge points, each with its own WebSocket library, to the example application under `php -S`."""

import asyncio
import json
import os

import aiohttp
import websockets
from aiohttp import web
from ocpp import v16, v201
from ocpp.routing import on

import backends
from node import Node
from stage import DEADLINE, ROOT, until

# Put behind the page's own text: tells the server that the page came from what it has in its log.
REPORTER = """<script>
  new MutationObserver(() => fetch('/report', { method: 'POST', body: element('log').textContent }))
    .observe(element('log'), { childList: true });
</script>"""


async def play(stage, long=False):
    page_port, other_port = stage.port(), stage.port()
    node = Node(stage, "ws2api", [])
    server = backends.PhpBuiltIn(stage)
    node.arguments = ["--backend", server.url, "--set", f"origins=http://127.0.0.1:{page_port}"]
    await node.start()
    await server.start(node)
    async with aiohttp.ClientSession() as session:
        application = Application(session, server)
        await play_demo(stage)
        await play_ocpp16(stage, node, application)
        await play_ocpp201(stage, node, application)
        for protocol in ("ocpp1.6", "ocpp2.0.1"):
            await play_program(stage, node, application, "ocpp_rpc.cjs", f"RPC {protocol}", protocol)
            stage.say(f"npm ocpp-rpc, strict, {protocol}: booted, asked to start, every message as OCPP's schemas want it")
        await play_program(stage, node, application, "ws.cjs", "WS1")
        stage.say("npm ws: compressing, fragments, pings, 200 kB, ten Calls at once, close")
        await play_example(stage, node, application)
        stage.say("examples/charge-point: booted, asked to start")
        await play_browser(stage, node, application, page_port)
        stage.say("Chromium: the page booted, was asked to start and said Accepted")
        await play_foreign_page(stage, node, other_port)
        stage.say("Chromium: a page from elsewhere was refused")
    await node.stop()
    await server.stop()


class Application:
    """The API of the example application, as its own users see it."""

    def __init__(self, session, server):
        self.session = session
        self.url = server.url

    async def start(self, client):
        """Asks for charging to be started; what the charge point said."""
        url = f"{self.url}/start/{client.replace(' ', '%20')}"
        async with self.session.post(url, json={"tag": "ABC"}) as answer:
            assert answer.status == 200, f"{client}: {answer.status} {await answer.text()}"
            return await answer.json()


class ChargePoint16(v16.ChargePoint):
    asked = None

    @on("RemoteStartTransaction")
    def handle_start(self, **payload):
        self.asked = payload
        return v16.call_result.RemoteStartTransaction(status=v16.enums.RemoteStartStopStatus.accepted)


class ChargePoint201(v201.ChargePoint):
    asked = None

    @on("RequestStartTransaction")
    def handle_start(self, **payload):
        self.asked = payload
        return v201.call_result.RequestStartTransaction(status=v201.enums.RequestStartStopStatusEnumType.accepted)


async def play_demo(stage):
    """The backend that is built in: PyPI's ocpp holds its answers against OCPP's schemas."""
    node = await Node(stage, "demo", ["demo"]).start()
    async with websockets.connect(f"{node.listen}/D16", subprotocols=["ocpp1.6"]) as socket:
        point = v16.ChargePoint("D16", socket)
        listening = asyncio.create_task(point.start())
        call = v16.call
        beat = await point.call(call.Heartbeat(), suppress=False)
        now = beat.current_time
        for request in (
            call.BootNotification(charge_point_model="M", charge_point_vendor="V"),
            call.Authorize("ABC"),
            call.StatusNotification(1, "NoError", "Available"),
            call.MeterValues(1, [{"timestamp": now, "sampledValue": [{"value": "1"}]}]),
            call.DataTransfer("V"),
            call.FirmwareStatusNotification("Idle"),
            call.DiagnosticsStatusNotification("Idle"),
        ):
            await point.call(request, suppress=False)
        start = await point.call(call.StartTransaction(1, "ABC", 0, now), suppress=False)
        await point.call(call.StopTransaction(1, now, start.transaction_id), suppress=False)
        listening.cancel()
    async with websockets.connect(f"{node.listen}/D201", subprotocols=["ocpp2.0.1"]) as socket:
        point = v201.ChargePoint("D201", socket)
        listening = asyncio.create_task(point.start())
        call = v201.call
        for request in (
            call.BootNotification(charging_station={"model": "M", "vendor_name": "V"}, reason="PowerUp"),
            call.Authorize(id_token={"id_token": "ABC", "type": "Central"}),
            call.StatusNotification(now, "Available", 1, 1),
            call.TransactionEvent("Started", now, "Authorized", 0, {"transaction_id": "t1"}),
            call.DataTransfer("V"),
        ):
            await point.call(request, suppress=False)
        listening.cancel()
    await node.stop()
    stage.say("ws2api demo: what it answers to PyPI ocpp, 1.6 and 2.0.1, is as OCPP's schemas want it")


async def play_ocpp16(stage, node, application):
    async with websockets.connect(f"{node.listen}/PY16", subprotocols=["ocpp1.6"]) as socket:
        assert socket.subprotocol == "ocpp1.6"
        point = ChargePoint16("PY16", socket)
        listening = asyncio.create_task(point.start())
        boot = await point.call(v16.call.BootNotification(charge_point_model="M", charge_point_vendor="V"))
        assert boot.status == "Accepted" and boot.interval == 300, boot
        beat = await point.call(v16.call.Heartbeat())
        assert beat.current_time, beat
        start = await point.call(v16.call.StartTransaction(1, "ABC", 0, beat.current_time))
        assert start.transaction_id > 0 and start.id_tag_info["status"] == "Accepted", start
        # It makes a request and is made one at the same time.
        answer, beat = await asyncio.gather(application.start("PY16"), point.call(v16.call.Heartbeat()))
        assert answer == {"status": "Accepted"} and beat.current_time
        assert point.asked == {"id_tag": "ABC"}, point.asked
        listening.cancel()
    stage.say("PyPI ocpp 1.6: BootNotification, Heartbeat, StartTransaction, asked for RemoteStartTransaction")


async def play_ocpp201(stage, node, application):
    async with websockets.connect(f"{node.listen}/PY201", subprotocols=["ocpp2.0.1"]) as socket:
        assert socket.subprotocol == "ocpp2.0.1"
        point = ChargePoint201("PY201", socket)
        listening = asyncio.create_task(point.start())
        station = {"model": "M", "vendor_name": "V"}
        boot = await point.call(v201.call.BootNotification(charging_station=station, reason="PowerUp"))
        assert boot.status == "Accepted" and boot.interval == 300, boot
        beat = await point.call(v201.call.Heartbeat())
        assert beat.current_time, beat
        answer, beat = await asyncio.gather(application.start("PY201"), point.call(v201.call.Heartbeat()))
        assert answer == {"status": "Accepted"} and beat.current_time
        assert point.asked["id_token"] == {"id_token": "ABC", "type": "Central"}, point.asked
        listening.cancel()
    stage.say("PyPI ocpp 2.0.1: BootNotification, Heartbeat, asked for RequestStartTransaction")


async def play_program(stage, node, application, script, client, *arguments):
    """A Node.js program: it says `ready`, is asked to start charging, and ends well."""
    path = ROOT / "tests/real/clients" / script
    where = [node.listen, client, *arguments] if arguments else [f"{node.listen}/{client}"]
    process = await stage.start(script, "node", path, *where, env={"NODE_PATH": os.environ["REAL_WORLD_NODE_PATH"]})

    def says(word):
        assert process.process.returncode in (None, 0), process.output()
        return any(line.split()[:1] == [word] for line in process.output().splitlines())

    await until(f"{script} to be ready", lambda: says("ready"))
    assert await application.start(client) == {"status": "Accepted"}
    await until(f"{script} to end", lambda: process.process.returncode is not None)
    assert process.process.returncode == 0 and says("closed"), process.output()
    if arguments:
        assert "booted Accepted 300" in process.output() and "refused NotImplemented" in process.output(), process.output()


async def play_example(stage, node, application):
    command = [os.sys.executable, ROOT / "examples/charge-point/charge_point.py", f"{node.listen}/TINY"]
    process = await stage.start("charge-point", *command)
    await until("the example to boot", lambda: "StatusNotification" in process.output())
    assert await application.start("TINY") == {"status": "Accepted"}
    await until("the example to say so", lambda: "asked for RemoteStartTransaction" in process.output())
    await process.kill()


async def browse(
    stage, port, query, is_done, text=(ROOT / "examples/browser/index.html").read_text(), more=(), deadline=DEADLINE
):
    """Chromium on a page, that of examples/browser, until its log is as it should be; the log."""
    log = []

    async def page(request):
        return web.Response(text=text + REPORTER, content_type="text/html")

    async def report(request):
        log[:] = [await request.text()]
        return web.Response(status=204)

    application = web.Application()
    application.add_routes([web.get("/", page), web.post("/report", report)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --remote-debugging-port=0"
    )
    profile = f"--user-data-dir={stage.folder / f'chromium-{port}'}"
    url = f"http://127.0.0.1:{port}/?{query}"
    chromium = await stage.start("chromium", "chromium", *flags.split(), *more, profile, url)
    await until("the page", lambda: log and is_done(log[0]), deadline)
    await chromium.kill()
    await runner.cleanup()
    return log[0]


async def play_browser(stage, node, application, port):
    started = None

    def is_done(text):
        nonlocal started
        if '"status":"Accepted"}]' in text and started is None:
            started = asyncio.create_task(application.start("PAGE"))
        return started is not None and started.done() and text.count("\n") >= 4

    log = await browse(stage, port, f"url={node.listen}/PAGE", is_done)
    assert await started == {"status": "Accepted"}
    frames = [json.loads(line[2:]) for line in log.splitlines() if line[:1] in "<>"]
    kinds = [(frame[0], frame[2] if frame[0] == 2 else None) for frame in frames]
    assert kinds == [(2, "BootNotification"), (3, None), (2, "RemoteStartTransaction"), (3, None)], log


async def play_foreign_page(stage, node, port):
    log = await browse(stage, port, f"url={node.listen}/FOREIGN", lambda text: "closed" in text)
    assert log == "# closed with 1006 \n", log
