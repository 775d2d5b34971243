"""Plays `ws2api load` to central systems of others, PyPI ocpp and npm ocpp-rpc, and to ws2api: both sides count the same."""

import asyncio
import collections
import json
import os
from datetime import datetime, timezone

import websockets
from ocpp import v16, v201
from ocpp.routing import on

from node import Node
from stage import ROOT, until

CHARGERS = 20
# Both versions, each charger a Call each 100 ms and a heartbeat each second.
LOAD = ["--chargers", CHARGERS, "--ramp", "500ms", "--duration", "2500ms", "--interval", "100ms"]
PROGRAM = os.environ.get("WS2API", ROOT / "target/debug/ws2api")


async def play(stage, long=False):
    for version, point in (("1.6", CentralSystem16), ("2.0.1", CentralSystem201)):
        await play_python(stage, version, point)
        await play_node(stage, version)
    await play_ws2api(stage)


async def load(stage, url, *more):
    """Its report; it has to end well."""
    return json.loads(await stage.run("load", PROGRAM, "load", url, *LOAD, "--json", *more))


def check(stage, what, report, connects, calls):
    """`calls`: how many of each Action the server has answered."""
    counted = {action: row["answered"] for action, row in report["calls"].items()}
    assert counted == dict(calls), (what, counted, calls)
    sent = {action: row["sent"] for action, row in report["calls"].items()}
    assert sent == counted, (what, sent, counted)
    assert report["connected"] == report["connects"] == connects == CHARGERS, (what, report, connects)
    beats = counted["Heartbeat"]
    assert counted["BootNotification"] == CHARGERS and beats >= CHARGERS, counted
    steps = [action for action in counted if action not in ("BootNotification", "Heartbeat")]
    assert steps and all(counted[action] >= CHARGERS for action in steps), counted
    stage.say(f"{what}: {sum(calls.values())} Calls of {CHARGERS} chargers, {beats} of them heartbeats; both sides count the same")


def now():
    return datetime.now(timezone.utc).isoformat()


class CentralSystem16(v16.ChargePoint):
    """What PyPI ocpp makes of one connection. It checks each message against OCPP's schema, and each answer."""

    transactions = iter(range(1, 1_000_000))

    @on("BootNotification")
    def boot(self, **_):
        return v16.call_result.BootNotification(current_time=now(), interval=1, status="Accepted")

    @on("Heartbeat")
    def heartbeat(self):
        return v16.call_result.Heartbeat(current_time=now())

    @on("StartTransaction")
    def start_transaction(self, **_):
        number = next(self.transactions)
        return v16.call_result.StartTransaction(transaction_id=number, id_tag_info={"status": "Accepted"})

    @on("MeterValues")
    def meter_values(self, **payload):
        assert payload["transaction_id"] > 0, payload
        return v16.call_result.MeterValues()

    @on("StopTransaction")
    def stop_transaction(self, **payload):
        assert payload["transaction_id"] > 0, payload
        return v16.call_result.StopTransaction()

    async def ask(self):
        answer = await self.call(v16.call.GetConfiguration(key=["NumberOfConnectors", "None"]))
        assert answer.unknown_key == ["None"], answer
        assert (await self.call(v16.call.Reset(type="Soft"))).status == "Accepted"


class CentralSystem201(v201.ChargePoint):
    @on("BootNotification")
    def boot(self, **_):
        return v201.call_result.BootNotification(current_time=now(), interval=1, status="Accepted")

    @on("Heartbeat")
    def heartbeat(self):
        return v201.call_result.Heartbeat(current_time=now())

    @on("TransactionEvent")
    def transaction_event(self, **_):
        return v201.call_result.TransactionEvent()

    async def ask(self):
        wanted = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}
        answer = await self.call(v201.call.GetVariables(get_variable_data=[wanted]))
        assert answer.get_variable_result[0]["attribute_status"] == "UnknownVariable", answer
        assert (await self.call(v201.call.Reset(type="Immediate"))).status == "Accepted"


async def play_python(stage, version, point):
    calls, connects, asked = collections.Counter(), [], []

    class Counted(point):
        async def route_message(self, raw):
            await super().route_message(raw)
            message = json.loads(raw)
            if message[0] == 2:
                calls[message[2]] += 1
            if message[0] == 2 and message[2] == "BootNotification":
                asked.append(asyncio.create_task(self.ask()))

    async def serve(connection):
        connects.append(connection.request.path)
        try:
            await Counted(connection.request.path.strip("/"), connection).start()
        except websockets.ConnectionClosed as end:
            assert end.rcvd and end.rcvd.code == 1000, end

    async with websockets.serve(serve, "127.0.0.1", 0, subprotocols=[f"ocpp{version}"]) as server:
        port = server.sockets[0].getsockname()[1]
        report = await load(stage, f"ws://127.0.0.1:{port}/ocpp/", "--ocpp", version)
        await asyncio.gather(*asked)
    assert sorted(connects) == sorted(f"/ocpp/LOAD{number}" for number in range(1, CHARGERS + 1)), connects
    assert all(row["answered"] == CHARGERS for row in report["requests"].values()) and len(report["requests"]) == 2, report
    check(stage, f"PyPI ocpp, {version}", report, len(connects), calls)


async def play_node(stage, version):
    """npm ocpp-rpc in strict mode. It demands a password of HTTP Basic."""
    environment = {"NODE_PATH": os.environ["REAL_WORLD_NODE_PATH"]}
    server = await stage.start("ocpp-rpc", "node", ROOT / "tests/real/clients/ocpp_rpc_server.cjs", f"ocpp{version}", env=environment)

    def said():
        return [json.loads(line) for line in server.output().splitlines() if line.startswith("{")]

    port = (await until("ocpp-rpc to listen", said))[0]["port"]
    report = await load(stage, f"ws://:secret@127.0.0.1:{port}/", "--ocpp", version)
    assert await server.terminate() == 0
    counts = said()[-1]
    check(stage, f"npm ocpp-rpc, strict, {version}", report, counts["connects"], counts["calls"])


async def play_ws2api(stage):
    node = await Node(stage, "ws2api", ["demo", "--cores", "0,0"]).start()
    report = await load(stage, node.listen, "--ocpp", "1.6,2.0.1")
    # What the demo's backend has printed is what it has answered.
    lines = [line.split("/") for line in node.process.output().splitlines() if line.startswith("POST /call/")]
    calls = collections.Counter(line[2] for line in lines)
    connects = node.process.output().count("POST /connect ")
    counted = {action: row["answered"] for action, row in report["calls"].items()}
    assert counted == dict(calls), (counted, calls)
    assert connects == report["connected"] == CHARGERS, (connects, report)
    stage.say(f"ws2api: {sum(calls.values())} Calls of {CHARGERS} chargers of both versions; both sides count the same")
    await node.stop()
