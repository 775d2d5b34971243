"""How many clients one address may open, and what carriers have instead."""

import asyncio
import itertools
import ssl

from balancer import raw_request
from stage import until

LIMIT = 5


async def check_address_limit(fleet):
    """A second HAProxy, in front of the same nodes, with a small limit."""
    second = await Second(fleet).start()
    taken = [await second.come() for _ in range(LIMIT)]
    assert all("HTTP/1.1 400" in answer for answer in taken), f"the first {LIMIT} are taken: {taken}"
    answer = await second.come()
    assert "HTTP/1.1 429" in answer and "retry-after" in answer.lower(), f"the first beyond the limit is told: {answer}"
    assert await second.come() == "", "those behind it cost no TLS handshake"
    # It goes on coming, without a pause. What was admitted falls out of the ten seconds all the same.
    await until("a busy address to be taken again", second.is_taken)
    lines = [line for line in second.process.output().splitlines() if "refused=address" in line]
    assert len(lines) == 1 and lines[0].startswith("127.0.0.1:"), f"one line a minute, with the address: {lines}"
    denied = second.denied()
    assert await second.come() == "" and second.denied() > denied, "those are counted"
    # A carrier, known from now on.
    second.command(f"add acl {second.carriers} 127.0.0.0/8")
    taken = [await second.come() for _ in range(4 * LIMIT)]
    assert all("HTTP/1.1 400" in answer for answer in taken), f"a carrier is not held to it: {taken}"
    await second.process.terminate()


class Second:
    # No client comes twice: that has a limit of its own.
    numbers = itertools.count(1)

    def __init__(self, fleet):
        self.fleet = fleet
        self.port = fleet.stage.port()
        self.carriers = fleet.stage.folder / "carriers.lst"
        self.carriers.write_text("# none yet\n")

    async def start(self):
        stage = self.fleet.stage
        environment = self.fleet.environment(
            BIND_CLIENTS=f"127.0.0.1:{self.port}",
            BIND_PUSHES=f"127.0.0.1:{stage.port()}",
            BIND_STATISTICS=f"127.0.0.1:{stage.port()}",
            PEER=f"127.0.0.1:{stage.port()}",
            ADMIN_SOCKET=str(stage.folder / "second.sock"),
            CARRIERS=str(self.carriers),
            CLIENTS_PER_ADDRESS=str(LIMIT),
        )
        self.process = await stage.start("haproxy-second", "haproxy", "-db", "-f", self.fleet.config, env=environment)
        await until("the second HAProxy", lambda: self.command("show info"))
        return self

    def command(self, text):
        return self.fleet.command(text, "second.sock")

    async def come(self):
        """The answer to a request that ws2api refuses; nothing if the connection was not taken."""
        request = f"GET /x-{next(self.numbers)} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        try:
            return await asyncio.to_thread(raw_request, self.port, self.fleet.context(), request)
        except (ConnectionError, ssl.SSLError):
            return ""

    async def is_taken(self):
        return "HTTP/1.1 400" in await self.come()

    def denied(self):
        """Connections that were turned away, as HAProxy counts them."""
        lines = [line.split(",") for line in self.command("show stat").splitlines()]
        column = lines[0].index("dcon")
        return int(next(line[column] for line in lines if line[:2] == ["clients", "FRONTEND"]))
