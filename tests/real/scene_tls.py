"""Connects other people's TLS to `listen_tls`: OpenSSL, curl, Python's websockets and ocpp, Node.js' ws."""

import asyncio
import os
import re
import ssl

import aiohttp
import websockets
from aiohttp import web
from ocpp import v16

from certificates import Authority, client_context
from node import Node
from stage import ROOT

HANDSHAKE = "\r\n".join(
    [
        "GET /{} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "",
        "",
    ]
)


async def play(stage, long=False):
    servers, clients, strangers = [await Authority(stage, name).create() for name in ("servers", "clients", "strangers")]
    both = [await servers.issue("localhost", "DNS:localhost,IP:127.0.0.1"), await rsa(servers)]
    listed = ", ".join(f'{{ chain = "{file}", key = "{file}" }}' for file in both)
    backend = await Backend().start(stage)
    arguments = [
        f"--backend={backend.url}",
        f"--set=tls_certificates=[{listed}]",
        f"--set=tls_client_ca={clients.certificate}",
        "--set=tls_client_auth=optional",
    ]
    ports = {key: stage.port() for key in ("listen", "ingress", "admin")}
    tls_port = stage.port()
    node = Node(stage, "ws2api", [*arguments, f"--set=listen_tls=127.0.0.1:{tls_port}"], ports=ports)
    await node.start()
    base = f"wss://localhost:{tls_port}"
    await play_openssl(stage, tls_port, servers, clients, strangers, backend)
    await play_curl(stage, tls_port, servers)
    await play_python(stage, base, servers, clients, backend)
    await play_node(stage, base, servers)
    async with aiohttp.ClientSession() as session, session.get(f"{node.url('admin')}/metrics") as answer:
        metrics = await answer.text()
    counted = dict(re.findall(r'^ws2api_tls_handshakes_total\{shard="0",outcome="(\w+)"\} (\d+)', metrics, re.MULTILINE))
    stage.say(f"counted on shard 0: {', '.join(f'{count} {outcome}' for outcome, count in counted.items() if count != '0')}")
    await node.stop()


async def rsa(authority):
    """A certificate of the other kind."""
    stem = authority.folder / "rsa"
    request = "req -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost".split()
    await authority.openssl(*request, "-keyout", f"{stem}.key", "-out", f"{stem}.csr")
    sign = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy".split()
    await authority.openssl(*sign, "-in", f"{stem}.csr", "-out", f"{stem}.crt")
    both = authority.folder / "rsa.pem"
    both.write_text((authority.folder / "rsa.crt").read_text() + (authority.folder / "rsa.key").read_text())
    return both


class Backend:
    """Lets everybody in, echoes, and remembers what it is told of each client."""

    def __init__(self):
        self.told = {}

    async def start(self, stage):
        application = web.Application()
        application.add_routes([web.post("/{tail:.*}", self.handle)])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        port = stage.port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def handle(self, request):
        kind, *rest = request.path.strip("/").split("/")
        if kind == "connect":
            self.told[request.headers["X-Client-Id"]] = dict(request.headers)
            return web.json_response("ok")
        if kind == "call" and rest[0] == "BootNotification":
            return web.json_response({"currentTime": "2030-01-01T00:00:00Z", "interval": 300, "status": "Accepted"})
        return web.Response(body=await request.read(), content_type="application/json")


async def openssl(port, *arguments, send=None):
    """What s_client says, and its exit code."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", *map(str, arguments)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    if send is None:
        output, _ = await asyncio.wait_for(process.communicate(b""), 60)
        return output.decode(errors="replace"), process.returncode
    process.stdin.write(send)
    await process.stdin.drain()
    output = b""
    while b"HTTP/1.1 " not in output or b"\r\n\r\n" not in output.split(b"HTTP/1.1 ", 1)[1]:
        piece = await asyncio.wait_for(process.stdout.read(65536), 60)
        if not piece:
            break
        output += piece
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            pass  # It has ended by itself.
    await process.wait()
    return output.decode(errors="replace"), None


async def play_openssl(stage, port, servers, clients, strangers, backend):
    trust = ("-CAfile", servers.certificate, "-verify_return_error")
    suites = [
        ("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"),
        ("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"),
        ("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
    ]
    for kind in ("ECDSA", "RSA"):
        for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"):
            suites.append(("-tls1_2", "-cipher", f"ECDHE-{kind}-{cipher}"))
    for version, flag, suite in suites:
        output, code = await openssl(port, *trust, version, flag, suite)
        assert code == 0 and "Verify return code: 0 (ok)" in output and suite in output, output
    stage.say(f"openssl s_client: {len(suites)} suites of TLS 1.2 and 1.3, with the ECDSA and the RSA certificate")

    refused = [
        ("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"),
        ("-tls1", "-cipher", "DEFAULT@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES256-SHA384:@SECLEVEL=0"),
    ]
    for arguments in refused:
        output, code = await openssl(port, *arguments)
        assert code != 0 and "Cipher is (NONE)" in output, (arguments, output)
    stage.say("openssl s_client: TLS 1.0, 1.1, RSA key exchange and CBC are refused")

    for version in ("-tls1_2", "-tls1_3"):
        file = stage.folder / f"session{version}"
        # The ticket of TLS 1.3 comes behind the handshake: read on until the answer.
        await openssl(port, *trust, version, "-sess_out", file, send=HANDSHAKE.format("S1").encode())
        output, _ = await openssl(port, *trust, version, "-sess_in", file)
        assert "Reused, " in output, output
    stage.say("openssl s_client: sessions are resumed")

    output, _ = await openssl(port, *trust, "-tls1_2", send=b"R\n")
    assert "renegotiation" in output.lower() or "alert" in output.lower() or "HTTP/1.1 400" in output, output
    for certificate, name, expected in [
        (await clients.issue("S2", "DNS:s2.example"), "S2", "101"),
        (await clients.issue("S2", "DNS:s2.example"), "S3", "403"),
        (None, "S4", "101"),
    ]:
        shown = ("-cert", certificate, "-key", certificate) if certificate else ()
        output, _ = await openssl(port, *trust, *shown, send=HANDSHAKE.format(name).encode())
        assert f"HTTP/1.1 {expected} " in output, output
    assert backend.told["S2"]["X-Client-Cert-Cn"] == "S2" and backend.told["S2"]["X-Client-Cert-Verified"] == "true"
    assert "X-Client-Cert-Cn" not in backend.told["S4"] and "S3" not in backend.told
    stranger = await strangers.issue("S5", "DNS:s5.example")
    output, _ = await openssl(port, *trust, "-cert", stranger, "-key", stranger, send=HANDSHAKE.format("S5").encode())
    assert "HTTP/1.1 101" not in output, output
    stage.say("openssl s_client: client certificates: its own 101, another one's 403, a stranger's none, without one 101")


async def play_curl(stage, port, servers):
    url = f"https://localhost:{port}/"
    output = await stage.run(
        "curl", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{ssl_verify_result}", "--cacert", servers.certificate, url
    )
    assert output.endswith("426 0") or output.endswith("404 0") or output.endswith("400 0"), output
    output = await stage.run("curl", "curl", "-sS", "-w", "%{http_code}", f"http://localhost:{port}/")
    assert output.endswith("400") and "wss://" in output, output
    stage.say("curl: a good certificate; plain HTTP at the port is told so")


async def play_python(stage, base, servers, clients, backend):
    for name, certificate in (("PY1", None), ("PY2", await clients.issue("PY2", "DNS:py2.example"))):
        context = client_context(servers, certificate)
        async with websockets.connect(f"{base}/{name}", subprotocols=["ocpp1.6"], ssl=context) as socket:
            point = v16.ChargePoint(name, socket)
            listening = asyncio.create_task(point.start())
            boot = await point.call(v16.call.BootNotification(charge_point_model="M", charge_point_vendor="V"))
            assert boot.status == "Accepted", boot
            listening.cancel()
    assert backend.told["PY2"]["X-Client-Cert-Cn"] == "PY2", backend.told["PY2"]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(servers)
        context.minimum_version = context.maximum_version = version
        async with websockets.connect(f"{base}/PY3", ssl=context, max_size=None) as socket:
            for length in (0, 1, 16_000, 16_384, 100_000, 900_000):
                text = f'{{"s":"{"z" * length}"}}'
                await socket.send(f'[2,"{length}","Echo",{text}]')
                assert await socket.recv() == f'[3,"{length}",{text}]'
    stage.say("PyPI ocpp and websockets: booted, with a client certificate, too; messages of every size, TLS 1.2 and 1.3")


async def play_node(stage, base, servers):
    script = ROOT / "tests/real/clients/ws_tls.cjs"
    environment = {"NODE_PATH": os.environ["REAL_WORLD_NODE_PATH"], "NODE_EXTRA_CA_CERTS": str(servers.certificate)}
    output = await stage.run("ws_tls.cjs", "node", script, f"{base}/NODE", env=environment)
    assert "closed 1000" in output, output
    stage.say("npm ws: messages of every size, compressed, and an orderly end")
