"""Starts HAProxy and nginx, with the configuration that this repository ships, in front of two nodes."""

import asyncio
import hashlib
import os
import re
import signal
import socket
import ssl

from admin_socket import AdminSocket
from certificates import Authority, client_context
from node import Node
from recorder import Recorder
from stage import ROOT, listens, until

HOSTS = ("127.0.1.1", "127.0.1.2")
# As in the configurations, where it may be changed.
ORIGIN = "https://app.example.org"
TOKEN = "a-token-of-the-test"


class Fleet:
    """Two nodes of config/node.toml behind a balancer, and a backend behind them."""

    def __init__(self, stage):
        self.stage = stage
        self.clients_port, self.pushes_port, self.statistics_port = stage.port(), stage.port(), stage.port()
        self.ports = {key: stage.port(*HOSTS) for key in ("listen", "ingress", "admin")}

    @property
    def base(self):
        return f"wss://localhost:{self.clients_port}"

    @property
    def ingress(self):
        return f"http://127.0.0.1:{self.pushes_port}"

    async def start(self):
        self.backend = await Recorder(self.stage).start()
        self.authority = await Authority(self.stage, "chargers").create()
        self.stranger = await Authority(self.stage, "stranger").create()
        self.certificate = await self.authority.issue("localhost", "DNS:localhost")
        token = self.stage.folder / "token"
        token.write_text(TOKEN + "\n")
        overrides = {"ingress_token_file": token, "backend": self.backend.url, "drain_spread": "2s", "drain_timeout": "5s"}
        overrides["tolerate"] = "no-connection-header,any-key,number-ids"
        overrides["subprotocols"] = "ocpp2.1,ocpp2.0.1,ocpp1.6,ocpp1.6j=ocpp1.6"
        overrides |= self.overrides
        arguments = ["--config", ROOT / "config/node.toml"]
        arguments += [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
        self.nodes = [
            Node(self.stage, f"n{number}", arguments, host, dict(self.ports)) for number, host in enumerate(HOSTS, 1)
        ]
        for node in self.nodes:
            await node.start()
        await self.start_balancer()
        await until("the balancer to serve", lambda: listens("127.0.0.1", self.pushes_port))
        return self

    def rewrite(self, old, new):
        """Changes the balancer's file; it is in force after a reload."""
        text = self.config.read_text()
        assert old in text, f"{self.config} has no {old}"
        self.config.write_text(text.replace(old, new))

    def context(self, certificate=None):
        return client_context(self.authority, certificate)

    async def clients_of(self, node, pusher):
        """Names of the clients that a node has, from its own ingress."""
        names, after = set(), None
        while True:
            path = "/clients?limit=1000" + (f"&after={after}" if after else "")
            async with pusher.session.get(node.url("ingress") + path, headers=pusher.headers) as answer:
                page = await answer.json()
            names |= {client["clientId"] for client in page["clients"]}
            after = page["next"]
            if after is None:
                return names


class HAProxy(Fleet):
    """config/haproxy.cfg as it stands; what is ours comes from the environment, as its head says."""

    name = "haproxy"
    # It remembers where clients are.
    has_memory = True
    overrides = {"proxy_protocol_from": "127.0.0.0/8"}
    file = "haproxy.cfg"
    # What each node is called there.
    servers = ("n1", "n2")

    def environment(self, **more):
        return {
            "BIND_CLIENTS": f"127.0.0.1:{self.clients_port}",
            "BIND_PUSHES": f"127.0.0.1:{self.pushes_port}",
            "BIND_STATISTICS": f"127.0.0.1:{self.statistics_port}",
            "PEER": f"127.0.0.1:{self.stage.port()}",
            "ADMIN_SOCKET": str(self.stage.folder / "haproxy.sock"),
            "CERTIFICATE": str(self.certificate),
            "CLIENT_CA": str(self.authority.certificate),
            "NODE_1": HOSTS[0],
            "NODE_2": HOSTS[1],
            "LISTEN_PORT": str(self.ports["listen"]),
            "INGRESS_PORT": str(self.ports["ingress"]),
            "ADMIN_PORT": str(self.ports["admin"]),
            "CARRIERS": str(ROOT / "config/carriers.lst"),
            # All our clients have one address.
            "CLIENTS_PER_ADDRESS": "100000",
            **more,
        }

    async def start_balancer(self, **more):
        text = (ROOT / "config" / self.file).read_text()
        if os.getuid() != 0:
            # Only root can become somebody else.
            text = re.sub(r"^ +(user|group) .*\n", "", text, flags=re.MULTILINE)
        self.config = config = self.stage.folder / "haproxy.cfg"
        config.write_text(text)
        environment = self.environment(**more)
        self.admin = AdminSocket(environment["ADMIN_SOCKET"])
        self.stage.say((await self.stage.run("haproxy-check", "haproxy", "-c", "-f", config, env=environment)).strip())
        self.process = await self.stage.start("haproxy", "haproxy", "-W", "-db", "-f", config, env=environment)
        for backend in ("clients", "ingress"):
            for server in self.servers:
                await self.wait_state(backend, server, "UP")

    async def reload(self):
        """As `systemctl reload haproxy` does it: a new worker takes over, the old one keeps the clients that it has."""
        old = self.worker()
        self.process.process.send_signal(signal.SIGUSR2)
        await until("a new worker", lambda: self.worker() not in ("", old))

    def worker(self):
        """The process id of the worker that takes connections now."""
        return self.admin.field("show info", "Pid")

    def remembered(self):
        """How many clients it knows the node of."""
        return int(self.admin.field("show table clients", "used"))

    async def wait_state(self, backend, server, state):
        await until(f"{backend}/{server} to be {state}", lambda: self.state(backend, server).startswith(state))

    def state(self, backend, server):
        lines = [line.split(",") for line in self.command("show stat").splitlines()]
        if not lines:
            return ""
        column = lines[0].index("status")
        return next((line[column] for line in lines if line[:2] == [backend, server]), "")

    def command(self, text):
        return self.admin.ask(text)

    async def wait_up(self, number):
        for backend in ("clients", "ingress"):
            await self.wait_state(backend, self.servers[number - 1], "UP")


class LargeHAProxy(HAProxy):
    """config/haproxy-200000.cfg, with a hundredth of its connections: this machine's limit is lower."""

    file = "haproxy-200000.cfg"
    servers = ("n1a", "n2a")

    def environment(self, **more):
        sources = {f"SOURCE_{letter}": f"127.0.2.{number}" for number, letter in enumerate("ABCD", 1)}
        limits = {"MAXCONN": "2100", "MAXCONN_CLIENTS": "2050", "MAXCONN_SERVER": "550"}
        return super().environment(**sources, **limits, **more)


class Second:
    """Another HAProxy in front of the same nodes, for what the first one is not to be bothered with."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.clients_port = fleet.stage.port()

    @property
    def base(self):
        return f"wss://localhost:{self.clients_port}"

    async def start(self, **more):
        """`more`: what is different in its environment."""
        stage = self.fleet.stage
        environment = self.fleet.environment(
            BIND_CLIENTS=f"127.0.0.1:{self.clients_port}",
            BIND_PUSHES=f"127.0.0.1:{stage.port()}",
            BIND_STATISTICS=f"127.0.0.1:{stage.port()}",
            PEER=f"127.0.0.1:{stage.port()}",
            ADMIN_SOCKET=str(stage.folder / f"second-{self.clients_port}.sock"),
            **more,
        )
        self.admin = AdminSocket(environment["ADMIN_SOCKET"])
        self.process = await stage.start("haproxy-second", "haproxy", "-db", "-f", self.fleet.config, env=environment)
        await until("the second HAProxy", lambda: self.admin.ask("show info"))
        return self


class Nginx(Fleet):
    """config/nginx.conf; it has no environment, so what is ours is put into a copy."""

    name = "nginx"
    has_memory = False
    # As the head of config/nginx.conf says it.
    overrides = {"proxy_protocol": "false", "trusted_proxies": "127.0.0.0/8", "trusted_headers": "x-ssl-client-cn"}

    async def start_balancer(self):
        folder = self.stage.folder
        text = (ROOT / "config/nginx.conf").read_text()
        replacements = {
            "listen 443 ": f"listen 127.0.0.1:{self.clients_port} ",
            "listen 127.0.0.1:4010;": f"listen 127.0.0.1:{self.pushes_port};",
            "10.0.0.11": HOSTS[0],
            "10.0.0.12": HOSTS[1],
            ":4000": f":{self.ports['listen']}",
            ":4001": f":{self.ports['ingress']}",
            "/etc/nginx/ws2api.pem": str(self.certificate),
            "/etc/nginx/chargers-ca.pem": str(self.authority.certificate),
            "/run/nginx.pid": str(folder / "nginx.pid"),
            "/var/log/nginx/error.log": str(folder / "nginx-error.log"),
            "worker_rlimit_nofile 524288": "worker_rlimit_nofile 4096",
            "worker_connections 262144": "worker_connections 4000",
            # All our clients have one address.
            "zone=address:10m  rate=20r/s": "zone=address:10m  rate=10000r/s",
        }
        for old, new in replacements.items():
            assert old in text, f"config/nginx.conf has no {old!r} any more"
            text = text.replace(old, new)
        self.config = config = folder / "nginx.conf"
        config.write_text(text)
        command = ["nginx", "-p", folder, "-c", config]
        self.stage.say((await self.stage.run("nginx-check", *command, "-t")).strip().splitlines()[-1])
        self.process = await self.stage.start("nginx", *command, "-g", "daemon off;")

    async def reload(self):
        self.process.process.send_signal(signal.SIGHUP)

    async def wait_up(self, number):
        """Nothing tells; who is cut off finds out."""


def alpn(port, context, offered):
    """Which protocol a TLS server chooses."""
    context.set_alpn_protocols(offered)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        with context.wrap_socket(connection, server_hostname="localhost") as tls:
            return tls.selected_alpn_protocol()


def certificate_shown(port, context):
    """The fingerprint of the certificate that a TLS server has."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with context.wrap_socket(connection, server_hostname="localhost") as tls:
            return hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()


def status_of(port, context, text):
    """The status line of the answer to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with context.wrap_socket(connection, server_hostname="localhost") as tls:
            tls.sendall(text.encode())
            return tls.makefile("rb").readline().decode(errors="replace").strip()


def raw_request(port, context, text):
    """What comes back for these bytes until the server closes; it has to."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with context.wrap_socket(connection, server_hostname="localhost") as tls:
            tls.sendall(text.encode())
            answer = b""
            try:
                while piece := tls.recv(65536):
                    answer += piece
            except ssl.SSLEOFError:
                pass
            return answer.decode(errors="replace")
