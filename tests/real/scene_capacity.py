"""Offers twice the load that N workers carry: how much of what they can do is done, who waits, what fails; and when they slow down tenfold."""

import asyncio
import itertools
import os
import random
import time

import aiohttp

from capacity import Workers
from node import Node
from station import Station

HOLD = 0.2
CLIENTS_PER_WORKER = 10
WARM_UP = 5.0
PHASE = 6.0


async def play(stage, long=False):
    counts, shards = ((1, 8, 64), (1, 2, 8)) if long else ((8,), (1, 2))
    # What is to be measured beside those, such as CAPACITY="backend_concurrency=16".
    others = [text for text in os.environ.get("CAPACITY", "").split() if text]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for workers, shard_count in itertools.product(counts, shards):
            for limit in ("auto", 256, workers, max(1, workers // 2)):
                await play_one(stage, session, workers, shard_count, f"backend_concurrency={limit}")
            for setting in others:
                await play_one(stage, session, workers, shard_count, setting)


async def play_one(stage, session, workers, shards, setting):
    backend = await Workers(stage, workers, HOLD).start()
    cores = ",".join(str(number % (os.cpu_count() or 1)) for number in range(shards))
    arguments = ["--backend", backend.url, "--cores", cores, "--set", setting, "--set", "drain_spread=0s"]
    node = await Node(stage, f"ws2api-{len(stage.processes)}", arguments).start()
    stations = [Station(session, node.listen, f"CP{number}") for number in range(CLIENTS_PER_WORKER * workers)]
    await asyncio.gather(*(station.connect() for station in stations))
    load = Load(stations, backend, rate=2 * workers / HOLD)
    traffic = asyncio.create_task(load.run())
    await asyncio.sleep(WARM_UP)
    full = await load.goodput(PHASE)
    backend.seconds = 10 * HOLD
    # Until then those end that have begun before, and none that has begun since.
    await asyncio.sleep(backend.seconds)
    slow = await load.goodput(2 * PHASE)
    backend.seconds = HOLD
    back = await load.recovery(0.9 * full)
    load.over.set()
    await traffic

    assert not any(station.strays or station.closes for station in stations), "an answer too many, or a client cut off"
    twice = {key for key, count in backend.runs.items() if count > 1}
    assert not twice, f"run twice: {twice}"
    stage.say(
        f"{workers} workers, {shards} shards, {setting}: {full:.0%} of what they can do; ten times slower {slow:.0%}; "
        f"normal again after {back}; {load.answers} Calls, failed: {load.failed or 'none'}; longest {load.longest:.1f} s"
    )
    await asyncio.gather(*(station.close() for station in stations))
    await node.stop()
    await backend.stop()


class Load:
    """Calls at `rate` in all; a client whose answer is late has its next one at once."""

    def __init__(self, stations, backend, rate):
        self.stations = stations
        self.backend = backend
        self.pause = len(stations) / rate
        self.over = asyncio.Event()
        self.good = []  # when
        self.failed = {}
        self.answers = 0
        self.longest = 0.0

    async def run(self):
        await asyncio.gather(*(self.live(station) for station in self.stations))

    async def live(self, station):
        due = time.monotonic() + random.uniform(0, self.pause)
        while not self.over.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            started = time.monotonic()
            frame = await station.call("Heartbeat", {})
            self.answers += 1
            self.longest = max(self.longest, time.monotonic() - started)
            if frame[0] == 3:
                self.good.append(time.monotonic())
            else:
                self.failed[frame[3]] = self.failed.get(frame[3], 0) + 1
            due = max(due + self.pause, time.monotonic())

    async def goodput(self, seconds):
        """What was answered well meanwhile, as a share of what the workers can do, who take a little longer than they are told to."""
        good, busy, done = len(self.good), self.backend.busy, self.backend.done
        await asyncio.sleep(seconds)
        hold = (self.backend.busy - busy) / max(1, self.backend.done - done)
        return (len(self.good) - good) * hold / (self.backend.count * seconds)

    async def recovery(self, share):
        """Seconds until one of them brings so much."""
        started = time.monotonic()
        while time.monotonic() - started < 30:
            if await self.goodput(1.0) >= share:
                return f"{time.monotonic() - started:.0f} s"
        return "more than 30 s"
