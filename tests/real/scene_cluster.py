"""Has three nodes find each other's clients through NATS, behind HAProxy that sends everybody anywhere, while nodes and NATS go and come."""

import asyncio
import collections
import itertools
import random
import time

import aiohttp
import websockets
from yarl import URL

from fleet import NAMES, Fleet, Watch, percent
from scene_balancer import batched
from scene_upgrade import NOW, START_16, START_201, Point16, Point201, v16, v201
from stage import DEADLINE, until
from station import Refused, Station

CLIENTS = 600
JUMPERS = 40
# So many of them come three times at once.
TIES = 10
POINTS = {"PY16": ("ocpp1.6", Point16, v16, START_16), "PY201": ("ocpp2.0.1", Point201, v201, START_201)}
# Statuses that say that nothing was sent, and that a backend asks again.
LATER = (429, 503)


async def play(stage, long=False):
    clients = aiohttp.TCPConnector(limit=0)
    # Each request finds a node of its own.
    requests = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=clients) as session, aiohttp.ClientSession(connector=requests) as anywhere:
        fleet = await Fleet(stage, anywhere).start()
        scene = Scene(stage, fleet, session, anywhere)
        watch, end = Watch(fleet), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch.run(end))
            await scene.connect(tasks, end)
            await scene.check_lists()
            await scene.check_peace()
            for _ in range(3 if long else 1):
                await scene.check_jumps()
                await scene.check_upgrade(fleet.named("n1"))
                await scene.check_drain(fleet.named("n2"))
                await scene.check_kill(fleet.named("n3"))
                await scene.check_nats(watch)
            await scene.check_lists()
            await scene.check_outcomes()
            end.set()
            await scene.leave()
            await watching
        assert not watch.faults, f"at two nodes for longer than a second: {watch.faults[:10]}"
        stage.say(f"nobody was at two nodes for longer than a second: {watch.longest:.2f} s at most, in {watch.looks} looks at all lists")
        assert not fleet.backend.odd, f"another node than that of /connect: {fleet.backend.odd[:10]}"
        assert not fleet.nats.refusals(), fleet.nats.refusals()
    for node in fleet.nodes:
        await node.stop()
    await fleet.backend.stop()


class Client(Station):
    """One that knows when its connection has ended, and remembers by connection."""

    ended = 0.0

    async def read(self):
        await super().read()
        self.ended = time.monotonic()

    async def live(self, end, pause):
        """A Call now and then; back at once when it is cut off."""
        while not end.is_set():
            try:
                if self.connection is None:
                    await self.connect()
                await self.echo()
                await asyncio.wait([self.reader], timeout=pause * random.uniform(0.5, 1.5))
            except (ConnectionError, Refused, aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(random.uniform(0.1, 0.5))

    @property
    def connection(self):
        """Which of its connections it has; None: none at the moment."""
        return None if self.reader is None or self.reader.done() else self.connects


class Ask:
    """A request at any node about a client, and what is known of that client then."""

    numbers = itertools.count(1)

    def __init__(self, kind, client, home):
        self.kind, self.client, self.home = kind, client, home
        self.message_id = f"a{next(self.numbers)}"
        self.before = client.connection
        self.at = time.monotonic()
        self.status = None  # None: nobody has answered
        self.body = None
        self.seconds = 0.0


class Scene:
    def __init__(self, stage, fleet, session, anywhere):
        self.stage, self.fleet, self.session, self.anywhere = stage, fleet, session, anywhere
        self.backend = fleet.backend
        self.backend.later = self.answer_later
        self.backend.at_once = self.push_at_once
        self.asks = []
        self.kills = []  # (node, when)
        self.background = set()
        self.faults = []
        self.at_once_count = 0

    # ---- Who is there ------------------------------------------------------------------------------------------------

    def client(self, name):
        return Client(self.session, self.fleet.base, name, compresses=False)

    async def connect(self, tasks, end):
        self.mass = {f"CP-{number:04}": None for number in range(CLIENTS - JUMPERS - len(POINTS))}
        self.mass = {name: self.client(name) for name in self.mass}
        self.jumpers = {f"JUMP-{number}": self.client(f"JUMP-{number}") for number in range(JUMPERS)}
        self.clients = self.mass | self.jumpers
        started = time.monotonic()
        everybody = list(self.clients.values())
        for group in batched(everybody, 100):
            await asyncio.gather(*(self.come(client) for client in group))
        for client in self.mass.values():
            tasks.create_task(client.live(end, pause=20.0))
        for name, kind in POINTS.items():
            tasks.create_task(self.live_point(end, name, *kind))
        await until("the libraries' clients", lambda: set(POINTS) <= set(self.backend.home_of))
        assert not self.faults, self.faults[:5]
        counts = collections.Counter(node for node, _ in self.backend.home_of.values())
        assert len(counts) == 3 and min(counts.values()) > CLIENTS // 6, counts
        await self.until_found()
        self.stage.say(
            f"{len(self.names)} clients in {time.monotonic() - started:.0f} s, {' + '.join(str(counts[name]) for name in NAMES)} at the three nodes; "
            f"{self.at_once_count} of them were pushed to through any node while their first Call was being answered"
        )

    async def come(self, client):
        await client.connect()
        if random.random() < 0.1:
            frame = await client.call("Now", {})
            assert frame[0] == 3, frame

    @property
    def names(self):
        return set(self.clients) | set(POINTS)

    async def until_found(self):
        """All nodes are in the cluster, and all clients are subscribed to."""
        await until("all clients to be found", lambda: self.fleet.nats.is_quiet(len(NAMES), len(self.names)))

    async def live_point(self, end, name, subprotocol, kind, version, _):
        """A charge point of the PyPI library, which comes again when it is cut off."""
        while not end.is_set():
            try:
                async with websockets.connect(f"{self.fleet.base}/{name}", subprotocols=[subprotocol]) as socket:
                    point = kind(name, socket, response_timeout=5)
                    listening = asyncio.create_task(point.start())
                    try:
                        while not end.is_set() and not listening.done():
                            answer = await point.call(version.call.Heartbeat(), suppress=False)
                            assert answer.current_time == NOW, answer
                            await asyncio.sleep(0.5)
                    finally:
                        listening.cancel()
                        await asyncio.gather(listening, return_exceptions=True)
            except (OSError, websockets.WebSocketException, TimeoutError):
                await asyncio.sleep(0.1)

    async def leave(self):
        for group in batched(list(self.clients.values()), 200):
            await asyncio.gather(*(client.close() for client in group))

    # ---- What is asked -----------------------------------------------------------------------------------------------

    async def ask(self, kind, client, node=None):
        """At any node, or at this one. What has no answer is noted, too: then nobody knows."""
        ask = Ask(kind, client, self.backend.home_of.get(client.name))
        self.asks.append(ask)
        base = node.url("ingress") if node else self.fleet.ingress
        methods = {"get": ("GET", f"/clients/{client.name}"), "kick": ("DELETE", f"/clients/{client.name}?code=4100&reason=scene")}
        method, path = methods.get(kind, ("POST", f"/call/Reset/{client.name}/{ask.message_id}"))
        headers = {"Prefer": "wait=20"} if kind == "wait" else {}
        body = {"type": "Soft"} if method == "POST" else None
        try:
            url = URL(base + path, encoded=True)
            async with self.anywhere.request(method, url, json=body, headers=headers) as answer:
                ask.body = await answer.json(content_type=None)
                ask.status = answer.status
                if ask.status == 503 and "Retry-After" not in answer.headers:
                    self.faults.append(f"503 without Retry-After: {ask.body}")
        except (aiohttp.ClientError, OSError):
            pass
        ask.seconds = time.monotonic() - ask.at
        if ask.status == 404 and ask.before is not None:
            # If it has been there all the time, and a second later still is, it was there.
            self.start(self.judge(ask))
        return ask

    async def judge(self, ask):
        await asyncio.sleep(1.0)
        if ask.client.connection == ask.before:
            self.faults.append(f"404 for {ask.client.name}, which was there ({ask.kind}, at {ask.home})")

    def start(self, work):
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def push_at_once(self, name):
        """The client's Call is being answered, so it is there."""
        self.at_once_count += 1
        ask = await self.ask("wait", self.clients[name])
        if ask.status != 200:
            self.faults.append(f"a push to {name} within its first Call: {ask.status} {ask.body}")

    def answer_later(self, action, client, message_id):
        self.start(self.post_answer(action, client, message_id))

    async def post_answer(self, action, client, message_id):
        url = f"{self.fleet.ingress}/result/{action}/{client}/{message_id}"
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    async with self.anywhere.post(url, json={"later": message_id}) as answer:
                        if answer.status not in LATER:
                            self.deferred[answer.status] += 1
                            return
                except (aiohttp.ClientError, OSError):
                    pass
                await asyncio.sleep(0.1)

    async def traffic(self, end, pause=0.05):
        """Everything that a backend does, at any node, one after the other; several of these go on at once."""
        names = list(self.mass)
        while not end.is_set():
            client = self.mass[random.choice(names)]
            kind = random.choices(["push", "wait", "get", "later", "kick"], [50, 25, 15, 8, 2])[0]
            if kind != "later":
                await self.ask(kind, client)
            elif client.connection is not None:
                try:
                    frame = await client.call("Later", {})
                    self.answered += frame[0] == 3
                except (ConnectionError, aiohttp.ClientError, TimeoutError):
                    pass
            await asyncio.sleep(pause)

    async def during(self, what):
        """Traffic while that is done. What was asked meanwhile."""
        self.deferred, self.answered = collections.Counter(), 0
        end, before = asyncio.Event(), len(self.asks)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(self.traffic(end))
            await what
            end.set()
        await until("judgements", lambda: not self.background)
        assert not self.faults, f"{len(self.faults)}: {self.faults[:5]}"
        return self.asks[before:]

    async def count(self, asked):
        """As soon as so many more have been asked."""
        goal = len(self.asks) + asked
        await until("traffic", lambda: len(self.asks) >= goal)

    def told(self, asks):
        """How they were answered, in words."""
        kinds = {"push": "pushes", "wait": "waiting", "get": "described", "kick": "kicked"}
        counts = collections.Counter((kinds[ask.kind], ask.status or "cut off") for ask in asks)
        return ", ".join(f"{kind} {status}: {count}" for (kind, status), count in sorted(counts.items(), key=str))

    # ---- What is shown -----------------------------------------------------------------------------------------------

    async def check_lists(self):
        """Every node knows all nodes, and their own lists name everybody once."""
        for node in self.fleet.nodes:

            async def knows_all():
                status, told = await self.fleet.get(node, "/nodes")
                assert status == 200, (status, told)
                nodes = {one["name"]: one for one in told["nodes"]}
                clients = sum(one["clients"] for one in nodes.values())
                is_true = sorted(nodes) == sorted(NAMES) and len(told["nodes"]) == 3 and clients == len(self.names)
                return is_true and not any(one["draining"] for one in nodes.values())

            await until(f"{node.name} to know three nodes and all clients", knows_all)
        listed = collections.Counter()
        for node in self.fleet.nodes:
            listed.update(list(await self.fleet.list(node)))
        assert set(listed) == self.names and max(listed.values()) == 1, (len(listed), listed.most_common(3))
        self.stage.say(f"GET /nodes at each of three, and /clients of each page by page: all {len(listed)}, each once")

    async def check_peace(self):
        """Everybody is where it is: each ask has its answer, wherever it is asked."""
        asks = await self.during(self.count(800))
        for name, (_, _, _, (action, payload)) in POINTS.items():
            url = f"{self.fleet.ingress}/call/{action}/{name}/point-{name}"
            for node in range(3):
                async with self.anywhere.post(f"{url}-{node}", json=payload, headers={"Prefer": "wait=20"}) as answer:
                    assert (answer.status, await answer.json()) == (200, {"status": "Accepted"}), name
        good = {"push": 202, "wait": 200, "get": 200, "kick": 204}
        kicked = {ask.client.name for ask in asks if ask.kind == "kick"}
        # Who was kicked is away for a moment.
        bad = [ask for ask in asks if ask.status != good[ask.kind] and ask.client.name not in kicked]
        assert not bad, [(ask.kind, ask.status, ask.body, ask.client.name) for ask in bad[:5]]
        for ask in asks:
            if ask.kind == "get" and ask.status == 200:
                assert ask.body["clientId"] == ask.client.name, ask.body
        codes = [self.clients[name].closes[-1:] for name in kicked]
        assert all(code == [4100] for code in codes), codes
        assert self.answered and set(self.deferred) <= {204, 404} and self.deferred[404] <= len(kicked), self.deferred
        here = [ask.seconds for ask in asks if ask.kind == "wait"]
        self.stage.say(f"at any node: {self.told(asks)}; {self.answered} deferred answers; waiting took {percent(here, 0.5) * 1000:.1f} ms, a hundredth longer than {percent(here, 0.99) * 1000:.0f} ms")

    async def check_jumps(self):
        """A client comes a second time, to another node perhaps: its older connection goes, and what was not sent goes with it."""
        seconds, moved, pushes = [], 0, []
        for name, old in self.jumpers.items():
            old.is_mute = True
            await until("its connection", lambda: old.connection)
            # The first one is sent and never answered, the others wait behind it.
            asks = [await self.ask("push", old) for _ in range(3)]
            assert [ask.status for ask in asks] == [202] * 3, [(ask.status, ask.body) for ask in asks]
            await until("the first push", lambda: old.pushes)
            home = self.backend.home_of[name]
            new = await self.client(name).connect()
            came = time.monotonic()
            await until("the older connection to end", lambda: old.reader.done())
            seconds.append(old.ended - came)
            assert old.closes[-1] == 4001, old.closes
            moved += self.backend.home_of[name][0] != home[0]
            self.jumpers[name] = self.clients[name] = new
            pushes.append((name, asks, new))
            await asyncio.sleep(0.01)
        assert max(seconds) < 1.0, f"{max(seconds):.2f} s until the older connection went"
        assert moved > JUMPERS // 3, moved
        for name, (first, *others), new in pushes:
            kind, made_by, payload = await self.backend.outcome(first.message_id)
            assert (kind, made_by, payload["code"]) == ("error", "ws2api", "Replaced"), (name, payload)
            assert payload["details"] == {"sent": True}, (name, payload)
            for ask in others:
                outcome = await self.backend.outcome(ask.message_id)
                assert outcome == ("result", "client", {"status": "Accepted"}), (name, outcome)
            assert list(new.pushes) == [ask.message_id for ask in others], (name, new.pushes, [ask.message_id for ask in others])
        told = [end for end in self.backend.disconnects if end["clientId"] in self.jumpers and end["code"] == 4001]
        assert len(told) >= JUMPERS and all("replacedBy" in end for end in told), told[:3]
        self.stage.say(
            f"{len(seconds)} clients came a second time, {moved} of them to another node: the older connection went after {percent(seconds, 0.5) * 1000:.0f} ms, "
            f"{max(seconds) * 1000:.0f} ms at most; what was not sent to it was answered at the new one, in order"
        )
        await self.check_ties()

    async def check_ties(self):
        """Three connections of a client at once: one stays."""
        for name, old in list(self.jumpers.items())[:TIES]:
            three = [self.client(name) for _ in range(3)]
            await asyncio.gather(*(client.connect() for client in three), return_exceptions=True)
            at = time.monotonic()
            those = [old, *(client for client in three if client.reader)]
            one_left = lambda: sum(client.connection is not None for client in those) == 1
            await until(f"one connection of {name}", one_left)
            took = time.monotonic() - at
            assert took < 1.0, f"{took:.2f} s until one of {len(those)} was left"
            self.jumpers[name] = self.clients[name] = next(client for client in those if client.connection is not None)
            ask = await self.ask("wait", self.clients[name])
            assert ask.status == 200, (ask.status, ask.body)
        self.stage.say("three connections of a client at once, ten times: one stays, and gets its pushes")

    async def check_upgrade(self, node):
        """A new process takes the node's clients over: nobody is cut off, and nobody fails to be found meanwhile."""
        before = {name: client.connects for name, client in self.clients.items()}
        kicked = lambda asks: {ask.client.name for ask in asks if ask.kind == "kick"}

        async def upgrade():
            await self.count(100)
            await node.upgrade(self.anywhere)
            await self.count(100)

        asks = await self.during(upgrade())
        cut = [name for name, client in self.clients.items() if client.connects != before[name]]
        assert set(cut) <= kicked(asks), f"cut off: {set(cut) - kicked(asks)}"
        await self.until_found()
        self.stage.say(f"{node.name} upgraded: nobody was cut off; {self.told(asks)}")

    async def check_drain(self, node):
        async def drain():
            await self.count(100)
            mine = [self.clients[name] for name, (home, _) in self.backend.home_of.items() if home == node.name and name in self.mass]
            # Some have pushes that they do not answer, and more behind them, when their node goes.
            for client in mine[:5]:
                client.is_mute = True
                for _ in range(3):
                    await self.ask("push", client)
            await node.stop()
            await self.all_back()
            await self.fleet.restart(node)
            await self.count(100)

        asks = await self.during(drain())
        await self.until_found()
        self.stage.say(f"{node.name} drained and started anew: {self.told(asks)}")

    async def check_kill(self, node):
        async def kill():
            await self.count(100)
            self.kills.append((node.name, time.monotonic()))
            await node.process.kill()
            await self.all_back()
            await self.count(100)
            await self.fleet.restart(node)
            await self.count(100)

        asks = await self.during(kill())
        await self.until_found()
        self.stage.say(f"{node.name} killed with -9 and started anew: {self.told(asks)}")

    async def all_back(self):
        for name, client in self.jumpers.items():
            if client.connection is None:
                self.jumpers[name] = self.clients[name] = await self.connected(name)
        await until("everybody to be back", lambda: all(client.connection is not None for client in self.clients.values()))

    async def connected(self, name):
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    return await self.client(name).connect()
                except (Refused, aiohttp.ClientError, OSError):
                    await asyncio.sleep(0.1)

    async def check_nats(self, watch):
        """NATS goes: each node serves its own, and says 503 for others; it comes back, and of two connections one stays."""
        twins = {}

        async def go_and_come():
            await self.count(50)
            watch.is_excused = True
            await self.fleet.nats.kill()
            await self.until_away()
            here = there = 0
            for client in random.sample(list(self.mass.values()), 30):
                home = self.backend.home_of[client.name][0]
                for node in self.fleet.nodes:
                    ask = await self.ask("wait", client, node)
                    if client.connection != ask.before:
                        continue
                    assert ask.status == (200 if node.name == home else 503), (node.name, home, ask.status, ask.body)
                    here, there = here + (node.name == home), there + (node.name != home)
            # Whoever comes now may be at two nodes: nobody can tell the other one. (Of those who came three times at once it is not known where
            # the one that stayed is.)
            for name, old in list(self.jumpers.items())[TIES : TIES + 20]:
                home = self.backend.home_of[name][0]
                new = await self.connected(name)
                if self.backend.home_of[name][0] != home:
                    twins[name] = (old, new)
                self.jumpers[name] = self.clients[name] = new
            assert here and there and twins, (here, there, len(twins))
            gone = [(name, old.closes, new.closes) for name, (old, new) in twins.items() if not (old.connection and new.connection)]
            assert not gone, f"one of two connections went while nobody could tell: {gone}"
            self.stage.say(f"without NATS: {here} pushes at the client's own node 200, {there} at others 503; {len(twins)} clients are at two nodes")
            await self.fleet.nats.start()
            started = time.monotonic()
            await until("the older connections to end", lambda: all(old.reader.done() for old, _ in twins.values()))
            self.back = time.monotonic() - started
            await self.until_found()
            self.found = time.monotonic() - started
            watch.is_excused = False
            await self.count(100)

        asks = await self.during(go_and_come())
        assert all(old.closes[-1] == 4001 and new.connection for old, new in twins.values()), "the newer one stays"
        missing = [ask for ask in asks if ask.status == 404 and ask.before is not None]
        self.stage.say(
            f"NATS killed and started anew: of clients at two nodes the newer connection stays, after {self.back:.1f} s; all are found after {self.found:.1f} s; "
            f"{self.told(asks)}; 404 while it was coming: {len(missing)}"
        )

    async def until_away(self):
        """Every node has noticed."""
        for node in self.fleet.nodes:

            async def says_so():
                status, _ = await self.fleet.get(node, "/clients/nobody")
                return status == 503

            await until(f"{node.name} to know that NATS is away", says_so)

    # ---- At the end --------------------------------------------------------------------------------------------------

    async def check_outcomes(self):
        """Each push that was answered 202 has exactly one outcome; but those to clients of a node that was killed meanwhile."""
        accepted = [ask for ask in self.asks if ask.kind == "push" and ask.status == 202]
        outcomes = self.backend.outcomes
        doomed = [ask for ask in accepted if self.is_doomed(ask)]
        sure = [ask for ask in accepted if not self.is_doomed(ask)]
        missing = lambda: [ask for ask in sure if not outcomes.get(ask.message_id)]
        try:
            await until("every outcome", lambda: not missing())
        except AssertionError:
            told = [(ask.message_id, ask.client.name, ask.home, round(time.monotonic() - ask.at)) for ask in missing()]
            raise AssertionError(f"{len(told)} of {len(accepted)} without an outcome: {told[:10]}") from None
        several = {ask.message_id: outcomes[ask.message_id] for ask in self.asks if len(outcomes.get(ask.message_id, ())) > 1}
        assert not several, f"two outcomes: {several}"
        answered = [ask for ask in self.asks if ask.kind == "wait" and ask.status in (200, 422)]
        twice = [ask.message_id for ask in answered if outcomes.get(ask.message_id)]
        assert not twice, f"answered in the request and posted as well: {twice[:10]}"
        repeats = [client.name for client in self.clients.values() if client.push_repeats]
        assert not repeats, f"a push came twice: {repeats}"
        lost = [ask for ask in doomed if not outcomes.get(ask.message_id)]
        self.stage.say(
            f"{len(accepted)} pushes accepted: {len(sure)} have their one outcome; of {len(doomed)} to clients of a node that was killed within "
            f"ten seconds {len(lost)} have none, no other is missing"
        )

    def is_doomed(self, ask):
        """Its client's node was killed while it may have been under way: push_timeout is ten seconds."""
        return ask.home is not None and any(
            ask.home[0] == node and ask.at - 1.0 <= at <= ask.at + 11.0 for node, at in self.kills
        )
