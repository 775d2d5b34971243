"""Sends more Calls than the workers carry, with fixed limits above, at and below their number: what is answered, what fails, who waits."""

import asyncio
import statistics
import time

import aiohttp

import backends
from node import Node
from station import Refused, Station

VENDOR = "ws2api.example"
HOLD = 0.1
CLIENTS = 100
SECONDS = 5


async def play(stage, long=False):
    workers = 4
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for kind in (backends.PhpFpm, backends.PhpBuiltIn):
            for concurrency in limits(workers):
                await play_one(stage, session, kind(stage, workers), workers, concurrency)


def limits(workers):
    return ("auto", 256, workers, workers // 2)


async def start_node(stage, server, concurrency, **settings):
    settings = {"backend_concurrency": concurrency, "drain_spread": "0s", **settings}
    arguments = ["--backend", server.url, "--cores", "0"]
    arguments += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return await Node(stage, f"ws2api-{len(stage.processes)}", arguments).start()


class Meter:
    """What happens from its beginning on, and what it costs."""

    def __init__(self, node, server):
        self.node = node
        self.server = server
        self.started = time.monotonic()
        self.before = self.cpu()
        self.times = []

    def cpu(self):
        return (self.node.process.cpu(), *self.server.cpu())

    async def timed(self, call):
        started = time.monotonic()
        answer = await call
        self.times.append(time.monotonic() - started)
        return answer

    def text(self):
        count, wall = len(self.times), time.monotonic() - self.started
        percentiles = statistics.quantiles(self.times, n=100)
        ws2api, rr, php = (1e6 * (after - before) / count for before, after in zip(self.before, self.cpu()))
        return (
            f"{count} in {wall:.1f} s, {count / wall:.0f}/s; p50 {1e3 * percentiles[49]:.1f} ms, p99 {1e3 * percentiles[98]:.1f} ms; "
            f"CPU each: ws2api {ws2api:.0f} µs, rr {rr:.0f} µs, PHP {php:.0f} µs"
        )


async def mirror(station, data="x"):
    """A Call whose method pushes to the client, waits for its answer, and answers with that."""
    return await station.call("DataTransfer", {"vendorId": VENDOR, "messageId": "Mirror", "data": data})


async def play_one(stage, session, server, workers, concurrency):
    """Each Call holds its worker for `HOLD`, and each client has its next one ready: far more than twice of what can be carried."""
    node = await start_node(stage, server, concurrency, call_timeout="5s")
    await server.start(node)
    stations = [Station(session, node.listen, f"CP{number}") for number in range(CLIENTS)]
    await asyncio.gather(*(station.connect() for station in stations))
    for station in stations:
        station.answer_after = HOLD
    meter = Meter(node, server)
    end = meter.started + SECONDS
    good, bad = 0, {}

    async def live(station):
        nonlocal good
        while time.monotonic() < end:
            frame = await meter.timed(mirror(station))
            if frame[0] == 3:
                assert frame[2]["status"] == "Accepted", frame
                good += 1
            else:
                bad[frame[3]] = bad.get(frame[3], 0) + 1

    knocking = asyncio.create_task(knock(session, node))
    await asyncio.gather(*(live(station) for station in stations))
    wall = time.monotonic() - meter.started
    assert not any(station.strays or station.push_repeats or station.closes for station in stations)
    stage.say(
        f"{server.name}, overload: {workers} workers that hold each Call for {HOLD} s, {CLIENTS} clients, backend_concurrency "
        f"{concurrency}: {good / wall:.0f}/s answered well (workers can {workers / HOLD:.0f}/s), {bad or 'none'} failed; "
        f"the longest took {max(meter.times):.1f} s; a client that knocked got {await knocking}"
    )
    await asyncio.gather(*(station.close() for station in stations))
    await node.stop()
    await server.stop()


async def knock(session, node):
    await asyncio.sleep(1.5)
    started = time.monotonic()
    station = Station(session, node.listen, "late")
    try:
        await station.connect()
        await station.close()
        word = "in"
    except Refused as refused:
        word = f"{refused.status}, Retry-After {refused.headers.get('Retry-After')}"
    return f"{word} after {time.monotonic() - started:.1f} s"
