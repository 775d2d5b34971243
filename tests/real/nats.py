"""Runs a real nats-server with config/nats.conf, which goes and comes back at the same port."""

from stage import ROOT, listens, until

PASSWORD = "a-password-of-the-test"


class Nats:
    def __init__(self, stage, session):
        self.stage, self.session = stage, session
        self.port, self.monitor = stage.port(), stage.port()
        self.process = None

    @property
    def url(self):
        return f"nats://ws2api:{PASSWORD}@127.0.0.1:{self.port}"

    async def start(self):
        where = ["-a", "127.0.0.1", "-p", self.port, "-m", self.monitor]
        environment = {"WS2API_NATS_PASSWORD": PASSWORD}
        self.process = await self.stage.start("nats", "nats-server", "-c", ROOT / "config/nats.conf", *where, env=environment)
        await until("NATS to serve", lambda: listens("127.0.0.1", self.port))
        await until("NATS to say how it is", lambda: listens("127.0.0.1", self.monitor))
        return self

    async def kill(self):
        """As a machine does it that loses power."""
        await self.process.kill()

    async def is_quiet(self, nodes, clients):
        """Whether so many nodes are there, and so many clients are subscribed to, twice each, and no more."""
        async with self.session.get(f"http://127.0.0.1:{self.monitor}/connz") as answer:
            connections = (await answer.json())["connections"]
        subscriptions = sum(connection["subscriptions"] for connection in connections)
        return len(connections) == nodes and subscriptions == 2 * clients + 2 * nodes

    def refusals(self):
        """Lines of its log about what a node wanted and may not."""
        return [line for line in self.process.output().splitlines() if "Violation" in line]
