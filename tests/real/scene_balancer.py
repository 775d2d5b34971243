"""Puts a balancer in front of two nodes: who comes in, where everybody ends up, and a node that goes and comes back."""

import asyncio
import itertools
import re
import ssl
from urllib.parse import quote

import aiohttp

from admission import admitted, refused
from address_limit import check_address_limit
from balancer import ORIGIN, TOKEN, alpn, raw_request, status_of
from revocation import check_revocation
from scene_reload import check_reload
from stage import ROOT, cpu, resident, until
from station import Pusher, Refused, Station, wait_at_most

CLIENTS = 200
TLS_FACTS = ["X-Tls-Version", "X-Tls-Cipher", "X-Client-Cert-Cn", "X-Client-Cert-Verified"]
# ClientIds that a careless balancer would hash in one way for the upgrade and in another for the push.
ODD = ["CP 1", "a+b", "50%", "q?x", "käse", "urn:cp:7", "#1", "a;b=c", "~tilde", "%41"]
EVEN_PATHS = {"CP-plain": "%43P-plain", "x-y": "x%2dy?version=2", "CP-q": "CP-q?a=/b/c"}


async def play(fleet, long=False):
    say = fleet.stage.say
    await fleet.start()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        await check_tls(fleet, session)
        say("TLS: wss and HTTP/1.1 alone, no keep-alive towards clients")
        if fleet.name == "haproxy":
            await check_metrics(fleet, session)
        await check_origin(fleet, session)
        say("Origin: the allowed page, no page, file:// and the same host come in; another page is refused and the backend not asked")
        await check_certificates(fleet, session)
        say("certificates: the right one comes in and its CN reaches the backend; wrong, foreign and forged ones do not")
        stations = await check_pushes(fleet, session)
        pusher = Pusher(session, fleet.ingress, TOKEN)
        homes = [await fleet.clients_of(node, pusher) for node in fleet.nodes]
        counts = [len(home) for home in homes]
        say(f"{sum(counts)} clients, {counts[0]} and {counts[1]} of them at the two nodes: a push to each has arrived")
        await check_restart(fleet, session, stations, rounds=10 if long else 1)
        if hasattr(fleet, "command"):
            await check_manual_drain(fleet, session, stations)
            say("state drain: who is there stays and gets its pushes, who comes goes to the other node")
        await asyncio.gather(*(station.close() for station in stations))
        if long and fleet.name == "haproxy":
            await measure(fleet, session)
        if fleet.name == "haproxy":
            await check_revocation(fleet, session)
        await check_empty_segments(fleet, session)
        await check_absolute_form(fleet)
        await check_firmware(fleet, session)
        say("firmware: another spelling of ocpp1.6 and numbers as MessageIds get in; without Connection or with a key of another length through nginx alone")
        await check_storm(fleet, session)
        say("a ClientId that comes again and again gets 429, others come in")
        await check_strangers(fleet, session)
        say("pushes: no token 401, no client 404, no name 400")
    for node in fleet.nodes:
        await node.stop()
    await fleet.backend.stop()


async def check_tls(fleet, session):
    context = fleet.context()
    assert await asyncio.to_thread(alpn, fleet.clients_port, fleet.context(), ["h2", "http/1.1"]) == "http/1.1"
    await admitted(fleet, session, "tls", ssl=context)
    try:
        await session.ws_connect(f"ws://localhost:{fleet.clients_port}/plain")
    except aiohttp.ClientError:
        pass
    else:
        raise AssertionError("it speaks without TLS")
    request = "GET /CP1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = await asyncio.to_thread(raw_request, fleet.clients_port, fleet.context(), request * 2)
    assert answer.count("HTTP/1.1 ") == 1 and "connection: close" in answer.lower(), answer
    assert answer.startswith("HTTP/1.1 4"), answer


async def check_metrics(fleet, session):
    """What the alert rules ask HAProxy for, it has."""
    rules = (ROOT / "config/ws2api.rules.yml").read_text()
    asked = set(re.findall(r"haproxy_\w+", rules))
    async with session.get(f"http://127.0.0.1:{fleet.statistics_port}/metrics") as answer:
        text = await answer.text()
    missing = [name for name in asked if not re.search(rf"^{name}(\{{| )", text, re.MULTILINE)]
    assert len(asked) >= 8 and not missing, f"{missing} of {asked}"
    for proxy in ("clients", "ingress"):
        assert f'haproxy_server_status{{proxy="{proxy}",server="n1",state="DOWN"}} 0' in text


async def check_origin(fleet, session):
    context = fleet.context()
    await admitted(fleet, session, "charger", ssl=context)
    headers = await admitted(fleet, session, "page", ssl=context, headers={"Origin": ORIGIN})
    assert headers["Origin"] == ORIGIN
    host = f"localhost:{fleet.clients_port}"
    for number, origin in enumerate(["file://", f"http://{host}", f"https://{host}"]):
        await admitted(fleet, session, f"firmware-{number}", ssl=context, headers={"Origin": origin})
    evil = ["https://evil.example", "http://app.example.org", ORIGIN + ".evil.example", "null", "file://evil"]
    evil += ["https://localhost", f"https://evil.example/{host}"]
    for number, origin in enumerate(evil):
        await refused(fleet, session, f"evil-{number}", 403, ssl=context, headers={"Origin": origin})
    two = [("Origin", ORIGIN), ("Origin", "https://evil.example")]
    try:
        await admitted(fleet, session, "two-origins", ssl=context, headers=two)
    except Refused as error:
        assert error.status in (400, 403), error
        assert fleet.backend.connect_of("two-origins") is None
    else:
        assert fleet.name == "nginx", "two origins came in"
        # It sees the first one alone; so does everybody behind it.
        assert fleet.backend.connect_of("two-origins").getall("Origin") == [ORIGIN]


async def check_certificates(fleet, session):
    plain = fleet.context()
    forged = {"X-SSL-Client-CN": "forged", "X-Forwarded-For": "203.0.113.9", "X-Client-Id": "forged"}
    forged |= {name: "forged" for name in TLS_FACTS}
    headers = await admitted(fleet, session, "no-certificate", ssl=plain, headers=forged)
    assert "X-SSL-Client-CN" not in headers, headers
    assert headers["X-Forwarded-For"].startswith("127.0.0.1") and "203.0.113.9" not in headers["X-Forwarded-For"]
    check_facts(fleet, headers, None)
    names = ["CP-cert", "urn:cp:cert"]
    for name in names:
        context = fleet.context(await fleet.authority.issue(name))
        for repeat in range(2):  # The second time, TLS resumes the session.
            headers = await admitted(fleet, session, name, ssl=context, headers=forged)
            # nginx says it in a header of its own; HAProxy before the request, where no client can write.
            assert headers.getall("X-SSL-Client-CN", []) == ([name] if fleet.name == "nginx" else []), headers
            check_facts(fleet, headers, name)
        for other in ["CP-other", name.upper(), name + "x", name[:-1]]:
            await refused(fleet, session, other, 403, ssl=context)
    foreign = fleet.context(await fleet.stranger.issue("CP-foreign"))
    try:
        await Station(session, fleet.base, "CP-foreign", ssl=foreign).connect()
    except Refused as error:
        assert error.status == 400, error  # nginx says it in HTTP, HAProxy ends the TLS handshake
    except (aiohttp.ClientError, ssl.SSLError, ConnectionError):
        pass
    else:
        raise AssertionError("a certificate of another authority came in")
    assert fleet.backend.connect_of("CP-foreign") is None


def check_facts(fleet, headers, name):
    """What `/connect` says of the TLS of a client with that name in its certificate."""
    told = [headers.getall(fact, []) for fact in TLS_FACTS]
    if fleet.name == "nginx":
        assert told == [[]] * 4, "nginx has no PROXY protocol v2 to say it with"
        return
    certificate = [[quote(name, safe="")], ["true"]] if name else [[], []]
    assert told == [["TLSv1.3"], ["TLS_AES_256_GCM_SHA384"], *certificate], told
    fleet.stage.say("/connect has " + ", ".join(f"{fact}: {value}" for fact, values in zip(TLS_FACTS, told) for value in values))


async def check_pushes(fleet, session):
    context = fleet.context()
    names = ODD + list(EVEN_PATHS)
    names += [f"CP-{number:04}" for number in range(CLIENTS - len(names))]
    stations = [Station(session, fleet.base, name, path=EVEN_PATHS.get(name), ssl=context) for name in names]
    for group in batched(stations, 50):
        await asyncio.gather(*(station.connect() for station in group))
    pusher = Pusher(session, fleet.ingress, TOKEN)
    for station in stations:
        status, body, message_id = await pusher.push(station.name, payload={"for": station.name})
        assert status == 202, f"a push to {station.name}: {status} {body}"
        kind, made_by, payload = await fleet.backend.outcome(message_id)
        assert (kind, made_by, payload) == ("result", "client", {"status": "Accepted"})
        assert station.pushes == {message_id: {"for": station.name}}, f"{station.name}: {station.pushes}"
        status, body, _ = await pusher.push(station.name, payload={"and": "wait"}, wait=20)
        assert (status, body) == (200, {"status": "Accepted"})
        await station.echo()
    homes = [await fleet.clients_of(node, pusher) for node in fleet.nodes]
    assert set(names) == homes[0] | homes[1] and not homes[0] & homes[1]
    # With 200 names a fair ring or table gives each about a half.
    assert min(len(home) for home in homes) >= CLIENTS // 5, [len(home) for home in homes]
    return stations


def batched(items, count):
    for start in range(0, len(items), count):
        yield items[start : start + count]


async def check_restart(fleet, session, stations, rounds):
    """Node 1 goes and comes back while Calls and pushes flow."""
    pusher = Pusher(session, fleet.ingress, TOKEN)
    by_name = {station.name: station for station in stations}
    first, second = fleet.nodes
    for _ in range(rounds):
        mine = await fleet.clients_of(first, pusher)
        others = [by_name[name] for name in await fleet.clients_of(second, pusher)]
        before = {station.name: (station.connects, len(station.closes)) for station in stations}
        pusher.accepted.clear()
        pusher.refused.clear()
        end = asyncio.Event()
        traffic = asyncio.gather(push_on(end, pusher, stations), *(station.live(end) for station in stations))
        answers = sum(station.answers for station in stations)
        await until("traffic", lambda: sum(station.answers for station in stations) > answers + CLIENTS)
        # Some have pushes that they do not answer, and more behind them, when their node goes.
        mute = [by_name[name] for name in sorted(mine)[:5]]
        left = [push for station in mute for push in await leave_pushes(pusher, station)]
        await first.stop()
        back = lambda: all(by_name[name].connects > before[name][0] and not by_name[name].reader.done() for name in mine)
        await until("its clients to come back elsewhere", back)
        moved = await fleet.clients_of(second, pusher)
        assert mine <= moved, f"not at the other node: {mine - moved}"
        await first.start()
        await fleet.wait_up(1)
        answers = sum(station.answers for station in stations)
        await until("traffic", lambda: sum(station.answers for station in stations) > answers + CLIENTS)
        end.set()
        await traffic

        disturbed = [station.name for station in others if (station.connects, len(station.closes)) != before[station.name]]
        assert not disturbed, f"clients of the other node were cut off: {disturbed}"
        codes = {code for name in mine for code in by_name[name].closes[before[name][1] :]}
        assert codes == {1001}, f"closed with {codes}"
        strays = [(station.name, station.strays) for station in stations if station.strays]
        assert not strays, f"answers without a Call: {strays}"
        for message_id in pusher.accepted:
            await fleet.backend.outcome(message_id)
        outcomes = {key: list(fleet.backend.outcomes[key].values())[0] for key in pusher.accepted}
        failed = [key for key, (_, made_by, _) in outcomes.items() if made_by == "ws2api"]
        assert set(left) <= set(failed), "a push was answered by nobody"
        assert {outcomes[key][2]["details"]["sent"] for key in failed} == {True, False}, "what was seen is told apart"
        assert not any(station.push_repeats for station in stations), "a push came twice"
        repeated = [key for key, count in fleet.backend.calls.items() if count > 1]
        assert not repeated, f"the backend got Calls twice: {repeated}"
        fleet.stage.say(
            f"node 1 drained and restarted: {len(mine)} reconnected with 1001, {len(others)} noticed nothing; "
            f"{len(pusher.accepted)} pushes accepted, each with one outcome ({len(failed)} of them failed by ws2api), "
            f"refused {pusher.refused or 'none'}"
        )
        # Who was at node 1 is at node 2, although the hash says node 1 again.
        if not fleet.has_memory:
            await until("the balancer to find node 1", lambda: finds(fleet, session, pusher))
            for name in mine:
                await by_name[name].close()
                await by_name[name].connect()
        for station in stations:
            status, body, message_id = await pusher.push(station.name)
            assert status == 202, f"a push to {station.name} after the restart: {status} {body}"
            await fleet.backend.outcome(message_id)
        await check_reload(fleet, session, stations)
        # And when they come anew they come home, with their pushes.
        await rebalance(fleet, session, stations)
        for name in mine:
            status, body, message_id = await pusher.push(name)
            assert status == 202, f"a push to {name} back home: {status} {body}"
        assert await fleet.clients_of(first, pusher) == mine


async def rebalance(fleet, session, stations):
    """Node 2 has everybody, behind a balancer with a memory. It sends all of them away bit by bit: each comes to where it belongs."""
    pusher = Pusher(session, fleet.ingress, TOKEN)
    before = {station.name: (station.connects, len(station.closes)) for station in stations}
    second = fleet.nodes[1]
    theirs = await fleet.clients_of(second, pusher)
    sent, count = [station for station in stations if station.name in theirs], len(theirs)
    end = asyncio.Event()
    traffic = asyncio.gather(*(station.live(end) for station in stations))
    async with session.post(second.url("admin") + f"/rebalance?close={count}&per_second=100") as answer:
        plan = await answer.json()
        assert answer.status == 200 and plan["close"] == count, plan
    back = lambda: all(station.connects > before[station.name][0] and not station.reader.done() for station in sent)
    await until("everybody to come back", back)
    end.set()
    await traffic
    closes = [station.closes[before[station.name][1] :] for station in sent]
    assert all(codes == [1001] for codes in closes), f"closed with {closes}"
    strays = [(station.name, station.strays) for station in stations if station.strays]
    assert not strays, f"answers without a Call: {strays}"
    counts = [len(await fleet.clients_of(node, pusher)) for node in fleet.nodes]
    fleet.stage.say(f"rebalance: {count} clients of node 2 sent away, 100 a second; {counts[0]} and {counts[1]} at the nodes now")


async def finds(fleet, session, pusher):
    """True when new clients of node 1 and pushes for them get there."""
    # Every other name belongs there.
    station = Station(session, fleet.base, f"finds-{next(Pusher.numbers)}", ssl=fleet.context())
    await station.connect()
    try:
        if station.name not in await fleet.clients_of(fleet.nodes[0], pusher):
            return False
        status, _, _ = await pusher.push(station.name)
        return status == 202
    finally:
        await station.close()


async def leave_pushes(pusher, station):
    """A push that the station does not answer, and one behind it; their MessageIds."""
    station.is_mute = True
    message_ids = []
    for _ in range(2):
        status, body, message_id = await pusher.push(station.name)
        assert status == 202, f"{status} {body}"
        message_ids.append(message_id)
    return message_ids


async def push_on(end, pusher, stations):
    for station in itertools.cycle(stations):
        if end.is_set():
            return
        try:
            await pusher.push(station.name)
        except aiohttp.ClientError as error:
            raise AssertionError(f"a push got no answer: {error}") from error
        await wait_at_most(end, 0.01)


async def check_manual_drain(fleet, session, stations):
    pusher = Pusher(session, fleet.ingress, TOKEN)
    mine = sorted(await fleet.clients_of(fleet.nodes[0], pusher))
    first = fleet.servers[0]
    fleet.command(f"set server clients/{first} state drain")
    by_name = {station.name: station for station in stations}
    for name in mine:
        status, body, message_id = await pusher.push(name)
        assert status == 202, f"a push to {name} at the draining node: {status} {body}"
        await fleet.backend.outcome(message_id)
    for name in mine[:5]:
        await by_name[name].close()
        await by_name[name].connect()
        status, body, message_id = await pusher.push(name)
        assert status == 202, f"a push to {name}, who has moved: {status} {body}"
    assert set(mine[:5]) <= await fleet.clients_of(fleet.nodes[1], pusher)
    fleet.command(f"set server clients/{first} state ready")
    await fleet.wait_up(1)


async def measure(fleet, session, clients=4000, messages=20_000):
    """What a client costs HAProxy: memory, CPU for its connection with TLS, CPU for a message there and back."""
    context, worker = fleet.context(), fleet.worker()
    stations = [Station(session, fleet.base, f"M-{number}", ssl=context) for number in range(clients)]
    memory, time = resident(worker), cpu(worker)
    for group in batched(stations, 100):
        await asyncio.gather(*(station.connect() for station in group))
    connected = cpu(worker)
    # What it has used to connect them goes back; only then is it what an idle client costs.
    await asyncio.sleep(10)
    each = (resident(worker) - memory) / clients
    connect = (connected - time) / clients
    time = cpu(worker)
    for number in range(0, messages, clients):
        await asyncio.gather(*(station.echo() for station in stations))
    message = (cpu(worker) - time) / (number + clients)
    fleet.stage.say(
        f"HAProxy, {clients} clients with TLS: {each / 1000:.1f} kB resident each, {connect * 1000:.2f} ms of CPU for a "
        f"connection, {message * 1e6:.0f} us for a Call and its answer"
    )
    await asyncio.gather(*(station.close() for station in stations))


async def check_empty_segments(fleet, session):
    """`//CP1` and `/CP1/` are CP1: at its node, for its pushes, and for the limit of its connects."""
    pusher = Pusher(session, fleet.ingress, TOKEN)
    for number in range(30):
        path = f"/empty-{number}" if number % 2 else f"empty-{number}/"
        station = await Station(session, fleet.base, f"empty-{number}", path=path, ssl=fleet.context()).connect()
        status, body, _ = await pusher.push(station.name, wait=20)
        assert (status, body) == (200, {"status": "Accepted"}), f"{station.url}: {status} {body}"
        await station.close()


async def check_absolute_form(fleet):
    """Older firmware writes the whole address into the request line (RFC 9112, 3.2.2)."""
    host = f"localhost:{fleet.clients_port}"
    for scheme in ("wss", "ws", "https"):
        name = f"absolute-{scheme}"
        request = f"GET {scheme}://{host}/{name} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        request += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        status = await asyncio.to_thread(status_of, fleet.clients_port, fleet.context(), request)
        assert status.startswith("HTTP/1.1 101 "), f"{name}: {status}"
        assert fleet.backend.connect_of(name) is not None


async def check_firmware(fleet, session):
    """What the nodes are told to tolerate comes through the balancer as the charger wrote it."""
    headers = await admitted(fleet, session, "spelling", ssl=fleet.context(), subprotocol="ocpp1.6j")
    assert headers["X-Subprotocol"] == "ocpp1.6", headers
    request = f"GET /odd-key HTTP/1.1\r\nHost: localhost:{fleet.clients_port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    request += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n\r\n"
    status = await asyncio.to_thread(status_of, fleet.clients_port, fleet.context(), request)
    if fleet.name == "nginx":
        assert status.startswith("HTTP/1.1 101 "), status
        assert fleet.backend.connect_of("odd-key") is not None
    else:
        # It looks at the key itself.
        assert status.startswith("HTTP/1.1 400 "), status
    request = f"GET /no-connection HTTP/1.1\r\nHost: localhost:{fleet.clients_port}\r\nUpgrade: websocket\r\n"
    request += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    status = await asyncio.to_thread(status_of, fleet.clients_port, fleet.context(), request)
    # nginx puts the header there; HAProxy takes Upgrade away with it, so that the node sees an ordinary request.
    assert status.startswith("HTTP/1.1 101 " if fleet.name == "nginx" else "HTTP/1.1 400 "), status
    async with session.ws_connect(f"{fleet.base}/numbers", ssl=fleet.context(), protocols=["ocpp1.6"]) as socket:
        await socket.send_str('[2,17,"Echo",{}]')
        answer = await socket.receive_str(timeout=30)
        assert answer.startswith("[3,17,"), answer


async def check_storm(fleet, session):
    context = fleet.context()
    for attempt in range(60):
        try:
            station = await Station(session, fleet.base, "loop", ssl=context).connect()
            await station.close()
        except Refused as error:
            assert error.status == 429, error
            if fleet.name == "haproxy":
                assert 30 <= int(error.headers["Retry-After"]) <= 90, error.headers
            break
    else:
        raise AssertionError("60 times in a minute, and always let in")
    assert attempt >= 9, f"refused at attempt {attempt + 1}"
    await admitted(fleet, session, "calm", ssl=context)
    if fleet.name == "haproxy":
        await check_address_limit(fleet)
        fleet.stage.say(
            "an address that comes too often is held to its rate, named in the log and counted; a carrier's is not"
        )


async def check_strangers(fleet, session):
    pusher = Pusher(session, fleet.ingress, TOKEN)
    status, _, _ = await pusher.push("nobody")
    assert status == 404, status
    status, _ = await pusher.get("/clients/nobody")
    assert status == 404, status
    status, _ = await pusher.get("/clients")
    assert status == 400, status
    status, _, _ = await Pusher(session, fleet.ingress).push("nobody")
    assert status == 401, status
