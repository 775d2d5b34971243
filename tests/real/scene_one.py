"""Runs one machine: config/haproxy-one.cfg and haproxy-one.toml as they stand, but for ports and paths."""

import asyncio
import os
import re
import shutil

import aiohttp

from admin_socket import AdminSocket
from admission import admitted
from balancer import certificate_shown
from certificates import Authority, client_context
from node import Node
from prometheus import Prometheus
from recorder import Recorder
from stage import ROOT, until
from station import Pusher, Station


async def play(stage, long=False):
    one = await One(stage).start()
    context = client_context(one.authority)
    async with aiohttp.ClientSession() as session:
        headers = await admitted(one, session, "CP1", ssl=context, headers={"X-Forwarded-For": "203.0.113.9"})
        assert headers["X-Forwarded-For"] == "127.0.0.1", headers
        stations = [Station(session, one.base, f"CP-{number}", ssl=context) for number in range(30)]
        await asyncio.gather(*(station.connect() for station in stations))
        await check_pushes(one, session, stations)
        stage.say("wss in, the client's own address at the backend, pushes at ws2api's own ingress")

        old = await asyncio.to_thread(certificate_shown, one.clients_port, context)
        fresh = await one.authority.issue("localhost", "DNS:localhost")
        haproxy_set = [ROOT / "scripts/haproxy-set", "cert", one.certificate, one.admin.path]
        one.certificate.write_text("-----BEGIN CERTIFICATE-----\nbad\n-----END CERTIFICATE-----\n")
        child = await stage.start("haproxy-set", *haproxy_set)
        assert await child.process.wait() == 1, child.output()
        assert await asyncio.to_thread(certificate_shown, one.clients_port, context) == old, "a bad file changes nothing"
        shutil.copyfile(fresh, one.certificate)
        await stage.run("haproxy-set", *haproxy_set)
        assert await asyncio.to_thread(certificate_shown, one.clients_port, context) != old
        assert one.admin.field("show info", "Pid") == one.worker, "the same worker serves"
        await check_pushes(one, session, stations)
        assert not any(station.closes for station in stations), "somebody was cut off"
        stage.say("a new certificate is shown without a reload; nobody noticed")
        await asyncio.gather(*(station.close() for station in stations))
        await check_alarms(one, session)
    await one.node.stop()
    await one.backend.stop()


async def check_pushes(one, session, stations):
    pusher = Pusher(session, one.node.url("ingress"))
    for station in stations:
        status, body, _ = await pusher.push(station.name, wait=20)
        assert (status, body) == (200, {"status": "Accepted"}), f"{station.name}: {status} {body}"


async def check_alarms(one, session):
    """Prometheus as config/prometheus.yml has it."""
    prometheus = Prometheus(one.stage, session)
    await prometheus.start(
        one.node.ports["admin"], one.statistics_port, one.clients_port, one.authority.certificate
    )
    jobs = {"ws2api", "haproxy", "certificates"}
    up = lambda samples: {labels["job"] for labels, value in samples if value == 1}

    async def is_complete():
        return up(await prometheus.query("up")) == jobs and up(await prometheus.query("probe_success")) == {"certificates"}

    await until("three jobs that answer, and a certificate that is believed", is_complete)

    # The certificates of this scene are valid for two days.
    async def is_told():
        return await prometheus.alerts() == {"CertificateExpires"}

    await until("the alert of a certificate that ends soon, and no other", is_told)
    one.stage.say("Prometheus has ws2api, HAProxy and the certificate; one alert: it expires in two days")


class One:
    def __init__(self, stage, backend=None):
        self.stage = stage
        self.backend = backend or Recorder(stage)
        self.clients_port, self.statistics_port = stage.port(), stage.port()
        self.base = f"wss://localhost:{self.clients_port}"

    async def start(self):
        stage = self.stage
        await self.backend.start()
        self.authority = await Authority(stage, "anybody").create()
        self.certificate = await self.authority.issue("localhost", "DNS:localhost")
        self.node = Node(stage, "ws2api", ["--config", ROOT / "config/haproxy-one.toml", "--backend", self.backend.url])
        await self.node.start()
        text = (ROOT / "config/haproxy-one.cfg").read_text()
        if os.getuid() != 0:
            # Only root can become somebody else.
            text = re.sub(r"^ +(user|group) .*\n", "", text, flags=re.MULTILINE)
        config = stage.folder / "haproxy.cfg"
        config.write_text(text)
        environment = {
            "BIND_CLIENTS": f"127.0.0.1:{self.clients_port}",
            "BIND_STATISTICS": f"127.0.0.1:{self.statistics_port}",
            "CERTIFICATE": str(self.certificate),
            "ADMIN_SOCKET": str(stage.folder / "haproxy.sock"),
            "NODE": f"127.0.0.1:{self.node.ports['listen']}",
        }
        self.admin = AdminSocket(environment["ADMIN_SOCKET"])
        stage.say((await stage.run("haproxy-check", "haproxy", "-c", "-f", config, env=environment)).strip())
        await stage.start("haproxy", "haproxy", "-W", "-db", "-f", config, env=environment)
        self.worker = await until("HAProxy", lambda: self.admin.field("show info", "Pid"))
        return self
