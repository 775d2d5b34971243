"""Holds real backends under Calls and pushes: how they frame their answers, and that they may go and come back."""

import asyncio
import re
import time

import aiohttp

import backends
from node import Node
from stage import until
from station import Pusher, Station, wait_at_most

CLIENTS = 40
MANY = 400
SLOW = 6
OUTCOME = re.compile(r"(result|error) of \S+ (p\d+) for (.+?) \((answer|no answer), key (\S+?)\)")


async def play(stage, long=False):
    for server in (backends.PhpBuiltIn, backends.PhpFpm, backends.RoadRunnerStandIn, backends.Go):
        await play_one(stage, server(stage), rounds=10 if long else 1)


async def play_one(stage, server, rounds):
    arguments = [*server.arguments(), "--backend", server.url, "--set", "drain_spread=0s"]
    node = Node(stage, f"ws2api-{server.name}", arguments)
    await node.start()
    await server.start(node)
    check_framing(server)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        stations = [Station(session, node.listen, f"CP {number}") for number in range(CLIENTS)]
        await asyncio.gather(*(station.connect() for station in stations))
        for action in ("Echo", "Chunked", "Close", "UntilClose") if server.name == "go" else ("Heartbeat",):
            await asyncio.gather(*(call(station, server, action, size) for station in stations for size in (0, 5_000)))
        if server.can_start:
            await check_start(session, server, stations[0])
            await check_many(stage, session, node, server)
        # In this order, since /disconnects are still under way.
        requests = await counted(session, node, "requests")
        connects = await counted(session, node, "connects")
        if server.keeps:
            assert connects < requests / 2, f"{connects} connections for {requests} requests"
        else:
            assert connects >= requests, f"{connects} connections for {requests} requests"
        stage.say(f"{server.name}: answers {server.frames}; {requests} requests over {connects} connections")
        for _ in range(rounds):
            for end in (server.stop, server.kill):
                await check_restart(stage, session, node, server, stations, end)
        await asyncio.gather(*(station.close() for station in stations))
    await node.stop()
    await server.stop()


async def check_many(stage, session, node, server):
    """Started as its file says, it carries 400 clients that come at once and call at once, while some of its workers wait."""
    stations = [Station(session, node.listen, f"MANY {number}") for number in range(MANY)]
    started = time.monotonic()
    await asyncio.gather(*(station.connect() for station in stations))
    connected = time.monotonic() - started
    slow, others = stations[:SLOW], stations[SLOW:]
    for station in slow:
        station.answer_after = 1.0
    times = []

    async def heartbeat(station):
        started = time.monotonic()
        assert await call(station, server), "a Call failed"
        times.append(time.monotonic() - started)

    async def mirror(station):
        frame = await station.call("DataTransfer", {"vendorId": "ws2api.example", "messageId": "Mirror"})
        assert frame[0] == 3 and frame[2]["status"] == "Accepted", frame

    for _ in range(3):
        await asyncio.gather(*map(mirror, slow), *map(heartbeat, others))
    await asyncio.gather(*(station.close() for station in stations))
    stage.say(
        f"{server.name}: {MANY} clients connected in {connected:.1f} s; {len(times)} Calls answered, none failed, the longest took "
        f"{max(times):.1f} s while {SLOW} clients let a worker wait 1 s each"
    )


def check_framing(server):
    """The server does frame its answers the way that it stands for."""
    path = b"/call/Heartbeat/CP1/m1"
    request = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    answer, closed = server.raw_answer(request)
    head = answer.split("\r\n\r\n")[0].lower()
    assert head.startswith("http/1.1 200"), answer
    frames = {
        "chunked": "transfer-encoding: chunked" in head and not closed,
        "length": "content-length:" in head and not closed,
        "close-delimited": "content-length:" not in head and "chunked" not in head and closed,
    }
    assert frames[server.frames], answer


async def call(station, server, action="Heartbeat", size=0):
    """A Call, and whether it was answered: with the right payload, or with InternalError while the backend is away."""
    payload = {"name": station.name, "pad": "x" * size}
    frame = await station.call(action, payload)
    if frame[0] == 4:
        assert frame[2] == "InternalError", frame
        return False
    expected = {"currentTime"} if server.can_start else set(payload)
    assert set(frame[2]) == expected and (server.can_start or frame[2] == payload), frame
    return True


async def check_start(session, server, station):
    """The application starts charging at a client: GET /clients, a push, its answer, all while a Call may be open."""
    async with session.post(f"{server.url}/start/{station.name.replace(' ', '%20')}", json={"tag": "A1"}) as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "Accepted"}), await answer.text()
    assert list(station.pushes.values()) == [{"idTag": "A1"}]
    async with session.post(f"{server.url}/start/nobody", json={"tag": "A1"}) as answer:
        assert answer.status == 404


async def counted(session, node, name):
    async with session.get(node.url("admin") + "/metrics") as answer:
        text = await answer.text()
    lines = re.findall(rf"^ws2api_backend_{name}_total\{{.*\}} (\d+)", text, re.MULTILINE)
    assert lines, f"no metric backend_{name}"
    return sum(map(int, lines))


async def check_restart(stage, session, node, server, stations, end):
    """The backend goes and comes back while Calls and pushes flow."""
    pusher = Pusher(session, node.url("ingress"))
    over = asyncio.Event()
    good, failed = dict.fromkeys(stations, 0), dict.fromkeys(stations, 0)

    async def live(station):
        while not over.is_set():
            if await call(station, server):
                good[station] += 1
            else:
                failed[station] += 1
            await wait_at_most(over, 0.05)

    async def push():
        for number in range(10**9):
            if over.is_set():
                return
            await pusher.push(stations[number % len(stations)].name)
            await wait_at_most(over, 0.02)

    def more_of(counts):
        before = dict(counts)
        return lambda: all(counts[station] > before[station] for station in stations)

    traffic = asyncio.gather(push(), *(live(station) for station in stations))
    # Should one of them fail, what is waited for here would never come.
    waiting = asyncio.create_task(go_and_come_back(server, node, end, good, failed, more_of))
    done, _ = await asyncio.wait({traffic, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if traffic in done:
        waiting.cancel()
        await traffic
    await waiting
    over.set()
    await traffic

    assert not any(station.closes for station in stations), "a client was cut off"
    assert not any(station.strays for station in stations), "an answer too many"
    assert not any(station.push_repeats for station in stations), "a push came twice"

    def outcomes():
        found = {}
        for kind, message_id, _, origin, key in OUTCOME.findall(server.logs()):
            found.setdefault(message_id, set()).add((kind, origin, key))
        return found

    await until("all outcomes", lambda: set(pusher.accepted) <= set(outcomes()))
    found = outcomes()
    double = {key: found[key] for key in pusher.accepted if len(found[key]) != 1}
    assert not double, f"more than one outcome: {double}"
    made_here = [key for key in pusher.accepted if list(found[key])[0][1] != "answer"]
    assert not made_here, f"pushes failed, although no client went: {made_here}"
    stage.say(
        f"{server.name}: {'ended' if end == server.stop else 'killed'} and started again: "
        f"{sum(good.values())} Calls answered, {sum(failed.values())} got InternalError, all clients stayed; "
        f"{len(pusher.accepted)} pushes accepted, each with one outcome; refused {pusher.refused or 'none'}"
    )


async def go_and_come_back(server, node, end, good, failed, more_of):
    await until("answers", more_of(good))
    await end()
    await until("the backend to be missed by all", more_of(failed))
    await server.start(node)
    await until("answers to all again", more_of(good))
