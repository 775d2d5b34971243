"""Has three new processes take over one after the other behind config/haproxy-one.cfg, while real clients talk: nobody notices."""

import asyncio
import collections
import csv
import itertools
import json
import os

import aiohttp
import websockets
from ocpp import v16, v201
from ocpp.routing import on

from certificates import client_context
from recorder import Recorder
from scene_clients import browse
from scene_one import One
from stage import DEADLINE, ROOT, until
from station import Pusher, Station

NOW = "2026-12-01T00:00:00Z"
ANSWERS = {
    "BootNotification": {"status": "Accepted", "currentTime": NOW, "interval": 300},
    "Heartbeat": {"currentTime": NOW},
}
# How each of them is asked to start charging.
START_16 = ("RemoteStartTransaction", {"idTag": "ABC"})
START_201 = ("RequestStartTransaction", {"idToken": {"idToken": "ABC", "type": "Central"}, "remoteStartId": 1})
PROGRAMS = {"RPC": "upgrade_ocpp_rpc.cjs", "WS": "upgrade_ws.cjs"}
STARTS = {"PY16": START_16, "PY201": START_201, "RPC": START_16, "WS": START_16, "PAGE": START_16}
STATIONS = 30
ROUNDS = 3


async def play(stage, long=False):
    rounds = 10 * ROUNDS if long else ROUNDS
    one = await One(stage, Csms(stage)).start()
    context = client_context(one.authority)
    # Who asks a process that goes does not keep the connection.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    enough, end = asyncio.Event(), asyncio.Event()
    async with aiohttp.ClientSession(connector=connector) as session:
        stations = [Station(session, one.base, f"CP-{number}", ssl=context) for number in range(STATIONS)]
        await asyncio.gather(*(station.connect() for station in stations))
        starts = {station.name: ("Reset", {"type": "Soft"}) for station in stations} | STARTS
        pusher = Patient(session, one.node.url("ingress"))
        async with asyncio.TaskGroup() as talk:
            for station in stations:
                talk.create_task(station.live(end, pause=0.05))
            points = {
                "PY16": await point(one, context, "ocpp1.6", Point16, "PY16"),
                "PY201": await point(one, context, "ocpp2.0.1", Point201, "PY201"),
            }
            for one_point in points.values():
                talk.create_task(one_point.live(end))
            programs = {name: await program(one, script, name) for name, script in PROGRAMS.items()}
            page = talk.create_task(browse_page(one))
            await until("everybody to have talked", lambda: all(one.backend.by_client[name] > 2 for name in starts))
            stage.say(f"{len(starts)} clients through HAProxy: aiohttp, PyPI ocpp 1.6 and 2.0.1, npm ocpp-rpc and ws, Chromium")
            before = haproxy(one)
            pushing = talk.create_task(push_on(enough, pusher, starts))
            for _ in range(rounds):
                await one.node.upgrade(session)
                calls = dict(one.backend.by_client)
                await until("everybody to go on", lambda: all(one.backend.by_client[name] > calls[name] + 1 for name in starts))
                for name, (action, payload) in starts.items():
                    status, body, _ = await pusher.push(name, action, payload, wait=20)
                    assert (status, body) == (200, {"status": "Accepted"}), f"{name}: {status} {body}"
            enough.set()
            await pushing
            for message_id in pusher.accepted:
                assert (await one.backend.outcome(message_id))[:2] == ("result", "client")
            # Before anybody leaves.
            assert sorted(name for name, _ in one.backend.connects) == sorted(starts), "somebody was asked about again"
            assert not one.backend.disconnects, one.backend.disconnects
            assert haproxy(one) == before, f"{before} before, {haproxy(one)} now"
            end.set()
            for name in ("RPC", "WS", "PAGE"):
                status, body, _ = await pusher.push(name, "Reset", {"type": "Soft"}, wait=20)
                assert (status, body) == (200, {"status": "Accepted"}), f"{name}: {status} {body}"
        for name, process in programs.items():
            await until(f"{name} to end", lambda: not process.is_running())
            assert process.process.returncode == 0 and "closed" in process.output(), process.output()
        assert page.result().splitlines()[-1].startswith("done "), page.result()
        for station in stations:
            assert (station.connects, station.closes, station.strays) == (1, [], []), f"{station.name}: {station.closes}"
            assert not station.push_repeats, f"{station.name} got a push twice"
        repeated = [key for key, count in one.backend.calls.items() if count > 1]
        assert not repeated, f"the backend got Calls twice: {repeated}"
        stage.say(
            f"{rounds} new processes took over: nobody was cut off or asked about again, HAProxy saw nothing; "
            f"{sum(one.backend.calls.values())} Calls, {len(pusher.accepted)} pushes, each with its one outcome; asked again: {pusher.again}"
        )
        await asyncio.gather(*(station.close() for station in stations))
    await one.node.stop()
    await one.backend.stop()


class Csms(Recorder):
    """Answers as OCPP's schemas want it, and echoes the rest."""

    def __init__(self, stage):
        super().__init__(stage)
        # How many Calls of each client.
        self.by_client = collections.Counter()

    def answer(self, action, client, body):
        self.by_client[client] += 1
        return json.dumps(ANSWERS[action]).encode() if action in ANSWERS else body


class Patient(Pusher):
    """Asks again when it gets 503, as it is told: nothing was sent then."""

    again = 0

    async def push(self, *what, **how):
        async with asyncio.timeout(DEADLINE):
            while (answer := await super().push(*what, **how))[0] == 503:
                self.again += 1
                await asyncio.sleep(0.05)
            return answer


async def push_on(end, pusher, starts):
    for name in itertools.cycle(starts):
        if end.is_set():
            return
        action, payload = starts[name]
        status, body, _ = await pusher.push(name, action, payload)
        # It has more than one of them under way at most.
        assert status in (202, 429), f"{name}: {status} {body}"
        await asyncio.sleep(0.005)


class Point16(v16.ChargePoint):
    @on("RemoteStartTransaction")
    def handle_start(self, **_):
        return v16.call_result.RemoteStartTransaction(status="Accepted")

    async def live(self, end):
        await live(self, end, v16.call.Heartbeat)


class Point201(v201.ChargePoint):
    @on("RequestStartTransaction")
    def handle_start(self, **_):
        return v201.call_result.RequestStartTransaction(status="Accepted")

    async def live(self, end):
        await live(self, end, v201.call.Heartbeat)


async def point(one, context, subprotocol, kind, name):
    socket = await websockets.connect(f"{one.base}/{name}", ssl=context, subprotocols=[subprotocol])
    assert socket.subprotocol == subprotocol
    one_point = kind(name, socket)
    one_point.socket = socket
    return one_point


async def live(point, end, heartbeat):
    """Heartbeats; an exception if its connection ends before it is time."""
    listening = asyncio.create_task(point.start())
    while not end.is_set():
        answer = await point.call(heartbeat(), suppress=False)
        assert answer.current_time == NOW, answer
        await asyncio.sleep(0.02)
    assert not listening.done(), "its connection has ended"
    listening.cancel()
    await point.socket.close()


async def program(one, script, name):
    path = ROOT / "tests/real/clients" / script
    where = [one.base, name] if name == "RPC" else [f"{one.base}/{name}"]
    environment = {
        "NODE_PATH": os.environ["REAL_WORLD_NODE_PATH"],
        "NODE_EXTRA_CA_CERTS": str(one.authority.certificate),
    }
    process = await one.stage.start(script, "node", path, *where, env=environment)

    def is_ready():
        assert process.is_running(), process.output()
        return "ready" in process.output().split()

    await until(f"{script} to be ready", is_ready)
    return process


async def browse_page(one):
    text = (ROOT / "tests/real/clients/upgrade.html").read_text()
    is_done = lambda log: "done" in log or "failed" in log
    return await browse(
        one.stage, one.stage.port(), f"url={one.base}/PAGE", is_done, text, ("--ignore-certificate-errors",), 5 * DEADLINE
    )


def haproxy(one):
    """What HAProxy has seen go wrong with ws2api, and how many connections it has made to it."""
    rows = csv.DictReader(one.admin.ask("show stat").lstrip("# ").splitlines())
    told = ("status", "econ", "eresp", "wretr", "wredis", "srv_abrt", "cli_abrt", "stot", "scur")
    found = {row["svname"]: {key: row[key] for key in told} for row in rows if row["pxname"] == "ws2api"}
    assert found, "HAProxy has a backend ws2api"
    return found
