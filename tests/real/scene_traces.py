"""Follows messages through the systems: examples/traces, whose spans an OpenTelemetry SDK makes of what ws2api passes on."""

import json
import sys

import aiohttp

from node import Node
from stage import ROOT, listens, until
from station import Station


async def play(stage, long=False):
    port = stage.port()
    settings = ["--backend", f"http://127.0.0.1:{port}", "--set", "trace_sampled=1", "--cores", "0"]
    node = await Node(stage, "ws2api", settings).start()
    program = ROOT / "examples/traces/backend.py"
    backend = await stage.start("traces", sys.executable, program, f"--port={port}", f"--ingress={node.url('ingress')}")
    await until("the backend to listen", lambda: listens("127.0.0.1", port))

    def spans(name):
        lines = [line for line in backend.output().splitlines() if line.startswith("{")]
        return [span for span in map(json.loads, lines) if span["name"] == name]

    async with aiohttp.ClientSession() as session:
        station = Station(session, node.listen, "CP1")
        await station.connect()
        for _ in range(3):
            await station.call("Heartbeat", {})
        beats = await until("three spans", lambda: len(spans("call Heartbeat")) == 3 and spans("call Heartbeat"))
        assert len({beat["trace"] for beat in beats}) == 3, beats
        assert all(beat["parent"] and beat["ocpp.client"] == "CP1" for beat in beats), beats
        stage.say("each Call is a trace of its own, and the backend's span belongs to it")

        url = f"http://127.0.0.1:{port}/push/CP1/Reset"
        async with session.post(url, json={"type": "Soft"}) as answer:
            pushed = await answer.json()
            assert answer.status in (200, 202), pushed
        [result] = await until("the outcome's span", lambda: spans("result Reset"))
        [push] = await until("the push's span", lambda: spans("push Reset"))
        assert pushed["trace"] == push["trace"] == result["trace"], (pushed, push, result)
        assert result["parent"] == push["span"], (push, result)
        stage.say("a push and what became of it are one trace")
        assert not spans("connect"), "what is not sampled is not recorded"
        await station.close()
    await node.stop()
    await backend.terminate()
