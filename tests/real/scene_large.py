"""Runs config/haproxy-200000.cfg: what differs from haproxy.cfg, and that it does the same."""

import asyncio
import re

import aiohttp

from balancer import TOKEN
from scene_balancer import check_manual_drain, check_pushes
from scene_reload import check_reload
from stage import ROOT
from station import Pusher

# What its head says.
DIFFERENCES = [
    r"setenv (maxconn|maxconn_clients|maxconn_server|source_[abcd]) .*",
    r"maxconn .*",
    r"server n[12][abcd]? .*",
    r"#.*",
]


async def play(fleet, long=False):
    check_differences()
    fleet.stage.say("haproxy-200000.cfg is haproxy.cfg, but for what its head says")
    await fleet.start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        stations = await check_pushes(fleet, session)
        pusher = Pusher(session, fleet.ingress, TOKEN)
        homes = [await fleet.clients_of(node, pusher) for node in fleet.nodes]
        fleet.stage.say(f"{len(homes[0])} and {len(homes[1])} clients at the two nodes: a push to each has arrived")
        await check_manual_drain(fleet, session, stations)
        for letter in "abcd":
            for backend in ("clients", "ingress"):
                await fleet.wait_state(backend, f"n1{letter}", "UP")
        await check_reload(fleet, session, stations)
        await asyncio.gather(*(station.close() for station in stations))
    for node in fleet.nodes:
        await node.stop()
    await fleet.backend.stop()


def check_differences():
    small, large = [
        {line.strip() for line in (ROOT / "config" / name).read_text().splitlines()}
        for name in ("haproxy.cfg", "haproxy-200000.cfg")
    ]
    unsaid = [line for line in small ^ large if not any(re.fullmatch(known, line) for known in DIFFERENCES)]
    assert not unsaid, f"in one of the two files alone: {unsaid}"
