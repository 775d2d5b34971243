"""Runs a ws2api under test."""

import os
import re
import signal

from stage import ROOT, stat, until


class Node:
    """A process, started with `arguments` on top of free ports of `host`."""

    def __init__(self, stage, name, arguments, host="127.0.0.1", ports=None):
        self.stage = stage
        self.name = name
        self.arguments = arguments
        self.host = host
        self.ports = ports or {key: stage.port(host) for key in ("listen", "ingress", "admin")}
        self.process = None
        # Of the one that serves, after an upgrade.
        self.successor = None

    def url(self, key):
        return f"http://{self.host}:{self.ports[key]}"

    @property
    def listen(self):
        return f"ws://{self.host}:{self.ports['listen']}"

    async def start(self):
        under = os.environ.get("WS2API_UNDER", "").split()
        program = os.environ.get("WS2API", ROOT / "target/debug/ws2api")
        addresses = [f"--{key}={self.host}:{port}" for key, port in self.ports.items()]
        self.process = await self.stage.start(self.name, *under, program, *self.arguments, *addresses)
        await until(f"{self.name} to serve", self.is_ready)
        return self

    def is_ready(self):
        assert self.process.is_running(), f"{self.name} ended:\n{self.process.output()}"
        return re.search(r"^ready (listen|listen_tls)=", self.process.output(), re.MULTILINE)

    async def upgrade(self, session):
        """A new process takes over; returns when the old one has ended and the new one knows it."""
        url = f"{self.url('admin')}/upgrade"
        async with session.post(url) as answer:
            assert answer.status == 200, f"{self.name}: {answer.status} {await answer.text()}"
            before, self.successor = self.successor, (await answer.json())["pid"]
        has_ended = lambda: not is_running(before) if before else not self.process.is_running()
        await until("the process before to end", has_ended)
        assert self.process.process.returncode == 0, self.process.output()

        async def is_alone():
            async with session.get(url) as answer:
                told = await answer.json()
                return not (told["underWay"] or told["hasPredecessor"] or told["isTakenOver"])

        await until("the new process to be alone", is_alone)

    async def stop(self):
        """Drains it; a node ends well, always."""
        if self.successor:
            os.kill(self.successor, signal.SIGTERM)
            await until("the new process to end", lambda: not is_running(self.successor))
        code = await self.process.terminate()
        assert code == 0, f"{self.name} ended with {code}:\n{self.process.output()}"
        assert "panicked" not in self.process.output()


def is_running(pid):
    """Whether it has not ended; it may be that nobody has waited for it."""
    return stat(pid)[:1] not in ([], ["Z"])
