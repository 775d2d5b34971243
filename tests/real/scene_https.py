"""Puts ws2api before backends over TLS that are other people's: nginx before PHP-FPM, aiohttp on OpenSSL, Go's net/http. They want a
certificate of it, show good ones and bad ones, change them in mid-traffic, end kept connections, and are lost in the middle of a
handshake."""

import asyncio
import re
import shutil
import signal
import ssl
import time

import aiohttp

import backends
from certificates import Authority
from node import Node
from recorder import Recorder
from scene_backends import call
from stage import ROOT, listens, until
from station import Refused, Station, wait_at_most

CLIENTS = 40
NAMES = "DNS:localhost,IP:127.0.0.1"
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
LOG_FORMAT = "log_format tls '$ssl_protocol $ssl_session_reused $ssl_client_verify $connection $request_uri $status';"


async def play(stage, long=False):
    authorities = Authorities()
    for name in ("servers", "clients", "strangers"):
        setattr(authorities, name, await Authority(stage, name).create())
    authorities.own = await authorities.clients.issue("ws2api", "DNS:ws2api")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for version in VERSIONS:
            await play_php(stage, session, authorities, version, rounds=10 if long else 1)
        await play_refused(stage, session, authorities)
        await play_losses(stage, session, authorities)
        for version in VERSIONS:
            await play_python(stage, session, authorities, version)
            await play_go(stage, session, authorities, version)


class Authorities:
    """`servers` and `clients` are believed, `strangers` by nobody; `own` is what ws2api shows."""

    def arguments(self, url, shown=None):
        arguments = ["--backend", url, f"--set=backend_ca={self.servers.certificate}", "--set=drain_spread=0s"]
        if shown:
            arguments.append(f'--set=backend_certificate={{ chain = "{shown}", key = "{shown}" }}')
        return arguments


class SecurePhpFpm(backends.PhpFpm):
    """examples/php-fpm behind TLS. Whoever asks shows a certificate. What it shows is in a file, read again at each reload."""

    name = "https-php-fpm"

    def __init__(self, stage, version, ca):
        super().__init__(stage)
        self.version, self.ca = version, ca
        self.file = stage.folder / f"{version}.pem"
        self.log = stage.folder / f"{version}.log"
        self.more = ""

    @property
    def url(self):
        return f"https://localhost:{self.port}"

    def adapted(self, name, text):
        if name != "nginx.conf":
            return text
        listening = f"listen 127.0.0.1:{self.port}"
        secure = (
            f"{listening} ssl; ssl_protocols {self.version}; ssl_certificate {self.file}; ssl_certificate_key {self.file}; "
            f"ssl_client_certificate {self.ca}; ssl_verify_client on"
        )
        assert listening in text and "access_log off;" in text
        text = text.replace(listening, secure).replace("access_log off;", f"{LOG_FORMAT} access_log {self.log} tls; {self.more}")
        if self.more:
            # There can be only one of each.
            text = re.sub(r"^ *keepalive_\w+ .*\n", "", text, flags=re.MULTILINE)
        return text

    def show(self, certificate):
        shutil.copy(certificate, self.file)

    async def reload(self, node, certificate, more=None):
        """As an operator does it; returns when whoever comes now is shown that certificate."""
        self.show(certificate)
        if more is not None:
            self.more = more
            self.write(node)
        self.running[0].process.send_signal(signal.SIGHUP)
        expected = ssl.PEM_cert_to_DER_cert(certificate.read_text().split("-----BEGIN PRIVATE")[0])

        async def is_shown():
            shown = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", self.port))
            return ssl.PEM_cert_to_DER_cert(shown) == expected

        await until("the new certificate", is_shown)

    def asked(self):
        """Version, whether resumed, the word on our certificate, connection, path and status of each request."""
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []


async def play_php(stage, session, authorities, version, rounds):
    """Everything that nginx does to a kept connection, while clients call."""
    good, wrong = await authorities.servers.issue("php", NAMES), await authorities.strangers.issue("php", NAMES)
    server = SecurePhpFpm(stage, version, authorities.clients.certificate)
    server.show(good)
    arguments = [*server.arguments(), *authorities.arguments(server.url, authorities.own)]
    node = Node(stage, f"ws2api-{version}", arguments)
    await node.start()
    await server.start(node)
    stations = [Station(session, node.listen, f"CP {number}") for number in range(CLIENTS)]
    await asyncio.gather(*(station.connect() for station in stations))
    for size in (0, 5_000, 60_000):
        assert all(await asyncio.gather(*(call(station, server, size=size) for station in stations)))
    asked = server.asked()
    assert {tuple(line[index] for index in (0, 2, 5)) for line in asked} == {(version, "SUCCESS", "200")}, asked[:3]
    connections = {line[3] for line in asked}
    assert len(connections) < len(asked) / 2
    said = f"{len(asked)} requests over {len(connections)} connections"
    await check_kept(stage, session, node, server, stations, good, version, said)
    for _ in range(rounds):
        await check_changes(stage, session, node, server, stations, authorities, good, wrong, version)
    await asyncio.gather(*(station.close() for station in stations))
    await node.stop()
    await server.stop()


async def check_kept(stage, session, node, server, stations, good, version, said):
    """nginx ends connections that it keeps: after so many requests, and after so long without one. Nobody notices."""

    async def none_is_open():
        return await metric(session, node, "ws2api_backend_connections") == 0

    # At a reload it ends what is idle, too: a Call that meets that on its way is cut off.
    await server.reload(node, good, more="keepalive_requests 7; keepalive_timeout 60s;")
    await until("nginx to end what was open", none_is_open)
    before = len(server.asked())
    for number in range(10):
        assert all(await asyncio.gather(*(call(station, server) for station in stations))), number
    asked = server.asked()[before:]
    assert len(asked) == 10 * len(stations), f"{len(asked)} requests for {10 * len(stations)} Calls"
    ended = len({line[3] for line in asked})
    assert ended >= len(asked) / 7, ended
    await server.reload(node, good, more="keepalive_requests 1000; keepalive_timeout 1s;")
    await until("nginx to end what was open", none_is_open)
    for _ in range(3):
        assert all(await asyncio.gather(*(call(station, server) for station in stations)))
        await until("nginx to end what is idle", none_is_open)
    full, resumed, failed = await handshakes(session, node)
    assert failed == 0 and resumed > 0, (full, resumed, failed)
    await server.reload(node, good, more="keepalive_requests 1000; keepalive_timeout 60s;")
    await until("nginx to end what was open", none_is_open)
    stage.say(
        f"nginx, {version}, our certificate wanted and shown: {said}; then {len(asked)} Calls over {ended} that it ended after 7 requests, "
        f"3 times all ended while idle; no Call failed or came twice; {full} handshakes in full, {resumed} resumed"
    )


async def check_changes(stage, session, node, server, stations, authorities, good, wrong, version):
    """nginx reloads while Calls flow: with a new certificate, with one that nobody knows, with a good one again."""
    over = asyncio.Event()
    answered, failed = dict.fromkeys(stations, 0), dict.fromkeys(stations, 0)

    async def live(station):
        while not over.is_set():
            counts = answered if await call(station, server) else failed
            counts[station] += 1
            await wait_at_most(over, 0.05)

    def more_of(counts):
        before = dict(counts)
        return lambda: all(counts[station] > before[station] for station in stations)

    traffic = asyncio.gather(*(live(station) for station in stations))
    await until("answers", more_of(answered))
    full = (await handshakes(session, node))[0]
    await server.reload(node, await authorities.servers.issue("php", NAMES))

    async def has_new_ones():
        return (await handshakes(session, node))[0] > full

    await until("a handshake with the new certificate", has_new_ones)
    await until("answers behind it", more_of(answered))
    lost = sum(failed.values())
    await server.reload(node, wrong)
    await until("the backend to be missed by all", more_of(failed))
    assert "signed by nobody who is known" in node.process.output(), node.process.output()
    count = len(server.asked())
    await until("the backend to be missed by all again", more_of(failed))
    told = len(server.asked()) - count
    await server.reload(node, good)
    await until("answers to all again", more_of(answered))
    over.set()
    await traffic
    assert not any(station.closes for station in stations), "a client was cut off"
    assert not any(station.strays for station in stations), "an answer too many"
    assert told == 0, f"{told} requests for whom nobody knows"
    stage.say(
        f"nginx, {version}: reloaded in mid-traffic with a new certificate ({lost} Calls cut off), a stranger's (told nothing, and the log says "
        f"why), a good one: {sum(answered.values())} Calls answered, all clients stayed"
    )


class Plain:
    """nginx with servers of one answer each."""

    def __init__(self, stage):
        self.stage = stage
        self.servers = []
        self.log = stage.folder / "plain.log"

    def add(self, certificate, more=""):
        """Its URL."""
        port = self.stage.port()
        self.servers.append(
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate}; {more} "
            f"default_type application/json; location / {{ return 200 '\"ok\"'; }} }}"
        )
        return f"https://localhost:{port}"

    async def start(self):
        folder = self.stage.folder
        paths = " ".join(f"{name}_temp_path {folder}/plain-{name};" for name in ("client_body", "fastcgi", "proxy", "uwsgi", "scgi"))
        config = folder / "plain.conf"
        config.write_text(
            f"pid {folder}/plain.pid; error_log {folder}/plain-error.log; events {{}}\n"
            f"http {{ {LOG_FORMAT} access_log {self.log} tls; {paths}\n" + "\n".join(self.servers) + "\n}\n"
        )
        self.process = await self.stage.start("plain-nginx", "nginx", "-p", folder, "-c", config, "-g", "daemon off;")
        port = int(re.search(r"127.0.0.1:(\d+)", self.servers[-1])[1])
        await until("nginx to serve", lambda: listens("127.0.0.1", port))
        return self

    def asked(self):
        return self.log.read_text().splitlines()


async def play_refused(stage, session, authorities):
    """Backends that are not who they should be are told nothing; one that does not take our certificate says so."""
    nginx = Plain(stage)
    bad = {
        "signed by nobody who is known": nginx.add(await authorities.strangers.issue("b", NAMES)),
        "has expired": nginx.add(await authorities.servers.issue("b", NAMES, expired=True)),
        "not for localhost but for elsewhere.example": nginx.add(await authorities.servers.issue("b", "DNS:elsewhere.example")),
        "should name localhost": nginx.add(await authorities.servers.issue("localhost", "email:a@example.com")),
        "no version or suite": nginx.add(
            await authorities.servers.issue("b", NAMES), "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-ECDSA-AES128-SHA;"
        ),
    }
    good = await authorities.servers.issue("b", NAMES)
    wants = f"ssl_client_certificate {authorities.clients.certificate}; ssl_verify_client on;"
    wanting = {version: nginx.add(good, f"ssl_protocols {version}; {wants}") for version in VERSIONS}
    await nginx.start()
    for words, url in bad.items():
        await expect_refused(stage, session, authorities.arguments(url, authorities.own), words)
    assert nginx.asked() == [], nginx.asked()
    stage.say(f"nginx: told nothing, and the log says why: {'; '.join(bad)}")
    stranger = await authorities.strangers.issue("ws2api", "DNS:ws2api")
    for version, url in wanting.items():
        # nginx finishes the handshake, and answers every request with 400: to ws2api that is the backend's no.
        for shown in (None, stranger):
            node = await Node(stage, "unknown", authorities.arguments(url, shown)).start()
            try:
                await Station(session, node.listen, "CP1").connect()
                raise AssertionError("nobody should get in")
            except Refused as refused:
                assert refused.status == 403, refused
            await node.stop()
        node = await Node(stage, "accepted", authorities.arguments(url, authorities.own)).start()
        station = await Station(session, node.listen, "CP1").connect()
        await station.close()
        await node.stop()
    words = {tuple(line.split()[index] for index in (2, 5)) for line in nginx.asked()}
    assert {("NONE", "400"), ("SUCCESS", "200")} <= words, words
    stage.say(f"nginx, our certificate wanted: without one, and with a stranger's, nobody gets in (403): {sorted(words)}")


async def expect_refused(stage, session, arguments, *words):
    """The log says one of these."""
    node = await Node(stage, "refused", [*arguments, "--set=backend_retry=0s"]).start()
    try:
        await Station(session, node.listen, "CP1").connect()
        raise AssertionError(f"it should have been refused: {words}")
    except Refused as refused:
        assert refused.status == 502, refused
    await until(f"the log to say {words}", lambda: any(some in node.process.output() for some in words))
    await node.stop()


class Relay:
    """Before a server, cuts the next connection off when the server has said so many bytes, in one of three ways."""

    def __init__(self, stage, url):
        self.behind = int(url.rsplit(":", 1)[1])
        self.port = stage.port()
        self.cut = None
        self.cuts = 0

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        return self

    async def serve(self, reader, writer):
        cut, self.cut = self.cut, None
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self.behind)

        async def forward(source, target, left):
            while piece := await source.read(min(65536, left)):
                target.write(piece)
                await target.drain()
                left -= len(piece)
                if left == 0:
                    return True
            return False

        there = asyncio.create_task(forward(reader, behind_writer, 1 << 30))
        back = asyncio.create_task(forward(behind_reader, writer, cut[0] if cut else 1 << 30))
        try:
            if cut is None or cut[0] > 0 and await back is not True:
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                return
            self.cuts += 1
            if cut[1] == "reset":
                writer.transport.abort()
            elif cut[1] == "silence":
                # Until the other side has had enough.
                await there
        except ConnectionError:
            pass
        finally:
            for task in (there, back):
                task.cancel()
            behind_writer.close()
            writer.close()


async def play_losses(stage, session, authorities):
    """A connection that is lost anywhere in its handshake is one that could not be opened: the next one serves."""
    nginx = Plain(stage)
    good = await authorities.servers.issue("b", NAMES)
    # Each connection has one request, and a handshake of its own in full.
    once = "keepalive_timeout 0; ssl_session_tickets off; ssl_session_cache off;"
    urls = {version: nginx.add(good, f"ssl_protocols {version}; {once}") for version in VERSIONS}
    await nginx.start()
    for version, url in urls.items():
        relay = await Relay(stage, url).start()
        arguments = [*authorities.arguments(f"https://localhost:{relay.port}"), "--set=connect_timeout=500ms", "--set=notify_disconnect=false"]
        node = await Node(stage, f"losses-{version}", arguments).start()
        times = []
        for end in ("fin", "reset", "silence"):
            for length in (0, 1, 4, 5, 6, 60, 127, 200, 400, 600):
                station = Station(session, node.listen, f"CP {end} {length}")
                cuts, relay.cut = relay.cuts, (length, end)
                started = time.monotonic()
                await station.connect()
                times.append(time.monotonic() - started)
                assert relay.cuts == cuts + 1, (end, length)
                await station.close()
        assert max(times) < 8, times
        failed = (await handshakes(session, node))[2]
        stage.say(
            f"nginx, {version}: {relay.cuts} connections lost within the handshake (FIN, reset, silence), {failed} counted as failed; each "
            f"client came in over the next one, after {max(times):.1f} s at the most"
        )
        await node.stop()
    await nginx.process.terminate()


async def play_python(stage, session, authorities, version):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authorities.clients.certificate)
    context.load_cert_chain(await authorities.servers.issue("python", NAMES))
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = VERSIONS[version]
    backend = await Recorder(stage, context).start()
    await play_wanting(stage, session, authorities, backend.url, f"aiohttp on OpenSSL, {version}")
    await backend.stop()


async def play_go(stage, session, authorities, version):
    """What RoadRunner's https is, too."""
    program = stage.folder / "backend"
    if not program.exists():
        cache = {"GOCACHE": str(ROOT / "target/real-world/go"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
        await stage.run("go-build", "go", "build", "-o", program, ROOT / "tests/real/backend.go", env=cache, deadline=240)
    leaf, port = await authorities.servers.issue("go", NAMES), stage.port()
    at_most = ["1.2"] if version == "TLSv1.2" else []
    process = await stage.start("go", program, f"127.0.0.1:{port}", leaf, authorities.clients.certificate, *at_most)
    await until("Go to serve", lambda: listens("127.0.0.1", port))
    await play_wanting(stage, session, authorities, f"https://localhost:{port}", f"Go's net/http, {version}")
    await process.terminate()


async def play_wanting(stage, session, authorities, url, name):
    """It wants our certificate: without one and with a stranger's it says why, with ours it serves."""
    for shown in (None, await authorities.strangers.issue("ws2api", "DNS:ws2api")):
        # asyncio ends a handshake of TLS 1.2 without a word.
        arguments = authorities.arguments(url, shown)
        await expect_refused(stage, session, arguments, "backend_certificate", "in the middle of the handshake")
    node = await Node(stage, "wanted", authorities.arguments(url, authorities.own)).start()
    stations = [Station(session, node.listen, f"CP {number}") for number in range(CLIENTS)]
    await asyncio.gather(*(station.connect() for station in stations))
    for size in (0, 1, 5_000, 16_300, 16_384, 100_000):
        await asyncio.gather(*(station.echo(size) for station in stations))
    full, resumed, failed = await handshakes(session, node)
    assert failed == 0, failed
    await asyncio.gather(*(station.close() for station in stations))
    await node.stop()
    stage.say(f"{name}: without our certificate, and with a stranger's, nobody gets in and the log says why; with ours {full} handshakes, {resumed} resumed")


async def metric(session, node, name, label=""):
    async with session.get(f"{node.url('admin')}/metrics") as answer:
        found = re.findall(rf"^{name}\{{.*{label}.*\}} (\d+)", await answer.text(), re.MULTILINE)
    assert found, name
    return sum(map(int, found))


async def handshakes(session, node):
    """With backends: in full, resumed, failed."""
    name = "ws2api_backend_tls_handshakes_total"
    return [await metric(session, node, name, f'outcome="{outcome}"') for outcome in ("full", "resumed", "failed")]
