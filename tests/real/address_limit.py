"""Shows how many clients one address may open, and what carriers have instead."""

import asyncio
import itertools
import ssl

from balancer import Second, raw_request
from stage import until

LIMIT = 5
numbers = itertools.count(1)


async def check_address_limit(fleet):
    """A second HAProxy, in front of the same nodes, with a small limit."""
    carriers = fleet.stage.folder / "carriers.lst"
    carriers.write_text("# none yet\n")
    second = await Second(fleet).start(CARRIERS=str(carriers), CLIENTS_PER_ADDRESS=str(LIMIT))
    taken = [await come(second) for _ in range(LIMIT)]
    assert all("HTTP/1.1 400" in answer for answer in taken), f"the first {LIMIT} are taken: {taken}"
    answer = await come(second)
    assert "HTTP/1.1 429" in answer and "retry-after" in answer.lower(), f"the first beyond the limit is told: {answer}"
    assert await come(second) == "", "those behind it cost no TLS handshake"
    # It goes on coming, without a pause. What was admitted falls out of the ten seconds all the same.
    await until("a busy address to be taken again", lambda: is_taken(second))
    lines = [line for line in second.process.output().splitlines() if "refused=address" in line]
    assert len(lines) == 1 and lines[0].startswith("127.0.0.1:"), f"one line a minute, with the address: {lines}"
    before = denied(second)
    assert await come(second) == "" and denied(second) > before, "those are counted"
    # A carrier, known from now on.
    second.admin.ask(f"add acl {carriers} 127.0.0.0/8")
    taken = [await come(second) for _ in range(4 * LIMIT)]
    assert all("HTTP/1.1 400" in answer for answer in taken), f"a carrier is not held to it: {taken}"
    await second.process.terminate()


async def come(second):
    """The answer to a request that ws2api refuses; nothing if the connection was not taken."""
    # No client comes twice: that has a limit of its own.
    request = f"GET /x-{next(numbers)} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        return await asyncio.to_thread(raw_request, second.clients_port, second.fleet.context(), request)
    except (ConnectionError, ssl.SSLError):
        return ""


async def is_taken(second):
    return "HTTP/1.1 400" in await come(second)


def denied(second):
    """Connections that were turned away, as HAProxy counts them."""
    lines = [line.split(",") for line in second.admin.ask("show stat").splitlines()]
    column = lines[0].index("dcon")
    return int(next(line[column] for line in lines if line[:2] == ["clients", "FRONTEND"]))
