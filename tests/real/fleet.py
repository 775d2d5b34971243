"""Starts three nodes of one cluster, NATS between them, and HAProxy in TCP mode before clients and ingress: nothing hashes."""

import asyncio
import collections
import time

import aiohttp
from aiohttp import web

from nats import Nats
from node import Node
from scene_upgrade import Csms
from stage import listens, until

NAMES = ("n1", "n2", "n3")
SETTINGS = {
    "drain_spread": "2s",
    "drain_timeout": "8s",
    "push_timeout": "10s",
    # A client that has gone without a word is none that the scene waits for.
    "ping_after": "20s",
    "dead_after": "40s",
}
HAPROXY = """
defaults
    mode tcp
    timeout connect 3s
    timeout client 300s
    timeout server 300s
    timeout check 5s
    balance roundrobin
    retries 5
    option redispatch
    option httpchk GET /readyz
    default-server check inter 200ms fall 1 rise 1

listen clients
    bind 127.0.0.1:{clients} backlog 4096
{listen}

listen pushes
    bind 127.0.0.1:{pushes} backlog 4096
{ingress}
"""


class Witness(Csms):
    """A backend that also knows which node said what. A Call "Later" is answered at the ingress, "Now" pushes while it is answered."""

    def __init__(self, stage):
        super().__init__(stage)
        self.node_of = {}  # connection id to X-Node of its /connect
        self.home_of = {}  # ClientId to (node, connection id) of its latest /connect
        self.odd = []  # requests about a connection that came from another node than its /connect
        self.told_by = {}  # MessageId of a push to the node that told its outcome
        self.later = None  # called with (action, ClientId, MessageId)
        self.at_once = None  # called with the ClientId

    async def handle(self, request):
        kind, *names = request.raw_path.lstrip("/").split("/")
        node, connection = request.headers.get("X-Node"), request.headers.get("X-Connection-Id")
        if node not in NAMES:
            self.odd.append((request.raw_path, node))
        if kind == "connect":
            self.node_of[connection] = node
            self.home_of[request.headers["X-Client-Id"]] = (node, connection)
        elif self.node_of.get(connection) != node:
            self.odd.append((request.raw_path, connection, node, self.node_of.get(connection)))
        if kind in ("result", "error"):
            self.told_by[names[2]] = node
        if kind == "call" and names[0] == "Later":
            asyncio.get_running_loop().call_soon(self.later, *names)
            return web.Response(status=202, headers={"X-Deferred": "1"})
        if kind == "call" and names[0] == "Now":
            await self.at_once(names[1])
        return await super().handle(request)


class Away(Exception):
    """A node that says 503 to a list."""


class Fleet:
    def __init__(self, stage, session):
        self.stage, self.session = stage, session
        self.clients_port, self.pushes_port = stage.port(), stage.port()
        self.nats = Nats(stage, session)
        self.backend = Witness(stage)

    @property
    def base(self):
        return f"ws://127.0.0.1:{self.clients_port}"

    @property
    def ingress(self):
        return f"http://127.0.0.1:{self.pushes_port}"

    async def start(self):
        await self.nats.start()
        await self.backend.start()
        self.nodes = [await self.node(name).start() for name in NAMES]
        await self.start_balancer()
        return self

    def node(self, name, ports=None):
        settings = {**SETTINGS, "cluster": self.nats.url, "node_name": name}
        arguments = ["--backend", self.backend.url, "--cores", "0,1"]
        arguments += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        return Node(self.stage, name, arguments, ports=ports)

    def named(self, name):
        return next(node for node in self.nodes if node.name == name)

    async def restart(self, node):
        """Another process of that name, at the same ports."""
        self.nodes[self.nodes.index(node)] = await self.node(node.name, node.ports).start()

    async def start_balancer(self):
        def servers(key):
            lines = (f"    server {node.name} 127.0.0.1:{node.ports[key]} port {node.ports['admin']}" for node in self.nodes)
            return "\n".join(lines)

        config = self.stage.folder / "haproxy.cfg"
        ports = {"clients": self.clients_port, "pushes": self.pushes_port}
        config.write_text(HAPROXY.format(**ports, listen=servers("listen"), ingress=servers("ingress")))
        await self.stage.start("haproxy", "haproxy", "-db", "-f", config)
        await until("HAProxy", lambda: listens("127.0.0.1", self.pushes_port))

    async def get(self, node, path):
        """Status and JSON of a question at that node's own ingress."""
        async with self.session.get(node.url("ingress") + path) as answer:
            return answer.status, await answer.json(content_type=None)

    async def list(self, node):
        """ClientId to connection id, of all pages at that node's own ingress; a ClientId that is there twice has two."""
        found, after = collections.defaultdict(list), None
        while True:
            more = f"&after={after}" if after else ""
            status, page = await self.get(node, f"/clients?limit=1000{more}")
            if status == 503:
                raise Away
            assert status == 200, f"{node.name}: {status} {page}"
            for client in page["clients"]:
                found[client["clientId"]].append(client["connectionId"])
            after = page["next"]
            if after is None:
                return found


class Watch:
    """Looks again and again who is at which node, by the nodes' own lists: nobody may be at two for longer than a second."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.since = {}  # (ClientId, its connections) to when they were seen together first
        self.longest = 0.0
        self.faults = []
        # While NATS is away nobody can know; then there is time until all of them are subscribed to again.
        self.is_excused = False
        self.looks = 0

    async def run(self, end):
        while not end.is_set():
            await self.look()
            await asyncio.sleep(0.1)

    async def look(self):
        started = time.monotonic()
        homes = collections.defaultdict(set)
        for node in list(self.fleet.nodes):
            try:
                for name, connections in (await self.fleet.list(node)).items():
                    homes[name].update(connections)
            except (OSError, aiohttp.ClientError, Away):
                pass  # It is not there, or is going.
        ended = time.monotonic()
        self.looks += 1
        now = {}
        for name, connections in homes.items():
            if len(connections) > 1:
                key = (name, frozenset(connections))
                now[key] = self.since.get(key, ended)
                # From the end of the look that saw both first to the beginning of this one, both were there.
                together = started - now[key]
                self.longest = max(self.longest, together)
                if together > 1.0 and not self.is_excused:
                    self.faults.append((name, sorted(connections), round(together, 2)))
        self.since = {} if self.is_excused else now


def percent(values, part):
    """The value below which that part of them is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0
