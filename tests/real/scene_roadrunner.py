"""Runs the real RoadRunner behind ws2api: everything that a backend does, and everything that happens to one; with figures."""

import asyncio
import os
import re
import signal
import time

import aiohttp

import backends
import scene_overload
from scene_backends import check_restart
from scene_overload import VENDOR, Meter, mirror, start_node
from stage import until
from station import Station, wait_at_most

CLIENTS = 400
WORKERS = 8


async def play(stage, long=False):
    server = backends.RoadRunner(stage, num_workers=WORKERS)
    node = await start_node(stage, server, "auto")
    await server.start(node)
    stage.say(f"RoadRunner {server.version}")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        stations = await check_connects(stage, session, node, server)
        await check_calls(stage, node, server, stations)
        await check_waiting_pushes(stage, node, server, stations)
        await check_pushes(stage, server, stations)
        await check_other_outcomes(stage, server, *stations[-2:])
        await check_deferred(stage, session, server, stations[0])
        await check_presence(stage, session, server, stations)
        few = stations[:40]
        await check_dead_worker(stage, server, few)
        await check_reload(stage, server, few)
        for end in (server.stop, server.kill) * (10 if long else 1):
            await check_restart(stage, session, node, server, few, end)
        await asyncio.gather(*(station.close() for station in stations))
        await node.stop()
        await server.stop()
        await check_max_jobs(stage, session)
        for concurrency in scene_overload.limits(4):
            server = backends.RoadRunner(stage, num_workers=4, allocate_timeout="1s")
            await scene_overload.play_one(stage, session, server, 4, concurrency)
        await check_no_workers(stage, session)


async def check_connects(stage, session, node, server):
    stations = [Station(session, node.listen, f"CP {number}") for number in range(CLIENTS)]
    meter = Meter(node, server)
    await asyncio.gather(*(meter.timed(station.connect()) for station in stations))
    stage.say(f"connects: {meter.text()}")
    return stations


async def check_calls(stage, node, server, stations):
    for some in (stations[:16], stations):
        meter = Meter(node, server)
        end = meter.started + 4

        async def live(station):
            while time.monotonic() < end:
                frame = await meter.timed(station.call("Heartbeat", {}))
                assert frame[0] == 3 and set(frame[2]) == {"currentTime"}, frame

        await asyncio.gather(*(live(station) for station in some))
        stage.say(f"Calls of {len(some)} clients, each its next one at once: {meter.text()}")


async def check_waiting_pushes(stage, node, server, stations):
    meter = Meter(node, server)

    async def ask(station, number):
        frame = await meter.timed(mirror(station, f"{station.name} {number}"))
        assert frame[0] == 3 and frame[2] == {"status": "Accepted", "data": '{"status":"Accepted"}'}, frame
        assert {"vendorId": VENDOR, "data": f"{station.name} {number}"} in station.pushes.values()

    for number in range(3):
        await asyncio.gather(*(ask(station, number) for station in stations))
    stage.say(f"Calls whose method pushes to their client, and waits: {meter.text()}")


async def check_pushes(stage, server, stations):
    """Pushes from inside a Call's method, not waited for: each has its one outcome, and it is the client's."""
    pushed = set(await asyncio.gather(*map(trigger, stations)))
    assert len(pushed) == len(stations)
    await until("all outcomes", lambda: pushed <= set(outcomes(server)))
    assert set(outcomes(server).values()) == {("result", "answer")}
    stage.say(f"pushes of a Call's method that does not wait: {len(pushed)}, each with its outcome")


async def check_other_outcomes(stage, server, refusing, leaving):
    """The client's CallError, and no answer at all: to the method that waits, and to the one for outcomes."""
    refusing.refuses = True
    frame = await mirror(refusing)
    assert frame[2]["status"] == "Rejected" and "NotSupported" in frame[2]["data"], frame
    refused = await trigger(refusing)
    leaving.is_mute = True
    left = await trigger(leaving)
    await until("the push", lambda: left in leaving.pushes)
    await leaving.close()
    await until("both outcomes", lambda: {refused, left} <= set(outcomes(server)))
    assert outcomes(server)[refused] == ("error", "answer")
    assert outcomes(server)[left] == ("error", "no answer")
    refusing.refuses = False
    await leaving.connect()
    stage.say("a push that the client refused, and one whose client went: /error, and its method knows which")


async def trigger(station):
    """A Call whose method pushes and does not wait; the push's MessageId."""
    frame = await station.call("DataTransfer", {"vendorId": VENDOR, "messageId": "Trigger"})
    return frame[2]["data"]


def outcomes(server):
    """MessageId of a push to how it ended, and whose word that was."""
    found = re.findall(r"(result|error) of TriggerMessage (\S+) for .+? \((answer|no answer), key", server.logs())
    return {message_id: (kind, origin) for kind, message_id, origin in found}


async def check_deferred(stage, session, server, station):
    calling = asyncio.create_task(station.call("DataTransfer", {"vendorId": VENDOR, "messageId": "Approve"}))
    url = f"{server.url}/approve/{station.name.replace(' ', '%20')}"

    async def approve():
        async with session.post(url, json={"status": "Accepted"}) as answer:
            return answer.status

    await until("the Call to wait for its approval", lambda: approved(approve))
    assert await calling == [3, calling.result()[1], {"status": "Accepted"}]
    assert await approve() == 404
    stage.say("a deferred Call: answered by another worker")


async def approved(approve):
    return await approve() == 204


async def check_presence(stage, session, server, stations):
    """Who is online, by events and by asking."""

    async def online():
        async with session.get(f"{server.url}/online") as answer:
            return {client["clientId"] for client in (await answer.json(content_type=None))["clients"]}

    names = {station.name for station in stations}
    assert await online() == names
    left = stations[-100:]
    await asyncio.gather(*(station.close() for station in left))
    names -= {station.name for station in left}

    async def are_known():
        return await online() == names

    await until("the departures to be known", are_known)
    async with session.post(f"{server.url}/reconcile") as answer:
        assert await answer.json(content_type=None) == {"forgotten": 0, "found": 0}
    stage.say(f"{len(left)} clients left, each with its /disconnect; GET /clients agrees with the other {len(names)}")


async def check_dead_worker(stage, server, stations):
    """Killed while it works: that Call gets InternalError, no other one notices, and there is a new worker."""
    victim, *others = stations
    victim.is_mute = True
    calling = asyncio.create_task(mirror(victim))
    await until("the push", lambda: victim.pushes and list(victim.pushes.values())[-1].get("data") == "x")
    workers = await server.workers()
    working = [pid for pid, state in workers.items() if state == "working"]
    assert len(workers) == WORKERS and len(working) == 1, workers
    os.kill(working[0], signal.SIGKILL)
    frame = await calling
    assert frame[0] == 4 and frame[2] == "InternalError", frame
    # Nobody waits for the push's answer any more, so it is posted after all.
    victim.is_mute = False
    message_id = list(victim.pushes)[-1]
    await victim.answer(message_id)
    await until("its outcome", lambda: f"result of DataTransfer {message_id} for {victim.name} (answer" in server.logs())

    async def is_whole():
        now = await server.workers()
        return len(now) == WORKERS and working[0] not in now

    await until("a new worker", is_whole)
    frames = await asyncio.gather(*(station.call("Heartbeat", {}) for station in others))
    assert all(answer[0] == 3 for answer in frames)
    stage.say(f"a worker killed: its Call got {frame[2]} ({frame[3]}), the push that it waited for its outcome, all others their answers")


async def under_traffic(stations, act):
    """Calls of all of them while `act` runs: how many were answered, and the errors among the answers."""
    over = asyncio.Event()
    answers = []

    async def live(station):
        while not over.is_set():
            answers.append(await station.call("Heartbeat", {}))
            await wait_at_most(over, 0.01)

    traffic = asyncio.gather(*(live(station) for station in stations))
    try:
        await act()
    finally:
        over.set()
        await traffic
    return len(answers), [frame for frame in answers if frame[0] == 4]


async def check_reload(stage, server, stations):
    before = set(await server.workers())
    count, errors = await under_traffic(stations, lambda: server.ask("reset"))
    after = set(await server.workers())
    assert not errors, errors[:3]
    assert len(after) == WORKERS and not before & after, (before, after)
    stage.say(f"rr reset: {WORKERS} workers replaced, {count} Calls meanwhile, none failed")


async def check_max_jobs(stage, session):
    server = backends.RoadRunner(stage, num_workers=4, max_jobs=100)
    node = await start_node(stage, server, "auto")
    await server.start(node)
    stations = [Station(session, node.listen, f"CP{number}") for number in range(40)]
    await asyncio.gather(*(station.connect() for station in stations))
    seen = set(await server.workers())

    async def twice():
        async def are_replaced():
            seen.update(await server.workers())
            return len(seen) >= 12

        await until("all workers to be replaced twice", are_replaced)

    count, errors = await under_traffic(stations, twice)
    stage.say(f"max_jobs 100: {len(seen)} workers came and went, {count} Calls, {len(errors)} failed {errors[:1] or ''}")
    assert not errors
    await asyncio.gather(*(station.close() for station in stations))
    await node.stop()
    await server.stop()


async def check_no_workers(stage, session):
    """What RoadRunner itself answers when no worker is free in time, and when a worker takes too long."""
    server = backends.RoadRunner(stage, num_workers=1, allocate_timeout="1s", **{"supervisor.exec_ttl": "3s"})
    node = await start_node(stage, server, 1)
    await server.start(node)
    station = await Station(session, node.listen, "CP1").connect()
    station.is_mute = True
    calling = asyncio.create_task(mirror(station))
    await until("the push", lambda: station.pushes)
    async with session.post(f"{server.url}/call/Heartbeat/CP1/1", json={}) as answer:
        assert answer.status == 503
        stage.say(f"no worker free within allocate_timeout: {answer.status}, No-Workers: {answer.headers.get('No-Workers')}")
    frame = await calling
    assert frame[2:4] == ["InternalError", "the backend answered 503"], frame
    await station.answer(next(iter(station.pushes)))
    assert (await station.call("Heartbeat", {}))[0] == 3
    stage.say("a worker that took longer than exec_ttl: ended, its Call got InternalError, the next one an answer")
    await station.close()
    await node.stop()
    await server.stop()
