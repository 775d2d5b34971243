"""Runs a ws2api under test."""

import os
import re

from stage import ROOT, until


class Node:
    """A process, started with `arguments` on top of free ports of `host`."""

    def __init__(self, stage, name, arguments, host="127.0.0.1", ports=None):
        self.stage = stage
        self.name = name
        self.arguments = arguments
        self.host = host
        self.ports = ports or {key: stage.port(host) for key in ("listen", "ingress", "admin")}
        self.process = None

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
        return re.search(r"^ready listen=", self.process.output(), re.MULTILINE)

    async def stop(self):
        """Drains it; a node ends well, always."""
        code = await self.process.terminate()
        assert code == 0, f"{self.name} ended with {code}:\n{self.process.output()}"
        assert "panicked" not in self.process.output()
