"""Lets a PHP backend crash, answer half of everything with 500, hang and die: what Prometheus and the log say, and when it is over."""

import asyncio
import signal

import aiohttp

from node import Node
from prometheus import Prometheus
from stage import listens, until
from station import Station

CLIENTS = 50
# Half of its Calls crash while there is a file of that name.
BACKEND = """<?php
[, $kind] = explode('/', $_SERVER['REQUEST_URI']);
if ($kind === 'connect') exit('"ok"');
if ($kind !== 'call') { http_response_code(204); exit; }
if (is_file(__DIR__ . '/crash') && random_int(0, 1)) no_such_function();
header('Content-Type: application/json');
echo file_get_contents('php://input');
"""


async def play(stage, long=False):
    backend = Php(stage)
    await backend.start("display_errors=0")
    settings = {"call_timeout": "3s", "result_ttl": "3s", "backend_connections_max": 8, "backend_retry": "0s"}
    arguments = ["--backend", backend.url, "--cores", "0,1", "--log", "json"]
    arguments += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    node = await Node(stage, "ws2api", arguments).start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        prometheus = await Prometheus(stage, session).start_alone(node.ports["admin"])
        stations = [Station(session, node.listen, f"CP-{number}") for number in range(CLIENTS)]
        await asyncio.gather(*(station.connect() for station in stations))
        end = asyncio.Event()
        traffic = asyncio.gather(*(call_on(end, station) for station in stations))
        scene = Scene(stage, node, prometheus, backend)
        await scene.is_calm("at first")

        backend.crash.touch()
        await scene.says("Ws2apiBackendFailing", "no good answer", "5xx")
        backend.crash.unlink()
        await scene.is_over("Ws2apiBackendFailing")
        stage.say("PHP fatal errors in half of the Calls: 5xx, with the backend's name")

        await backend.stop()
        await backend.start("display_errors=1")
        await scene.is_calm("with a new backend")
        backend.crash.touch()
        await scene.says("Ws2apiBackendFailing", "no good answer", "no JSON")
        backend.crash.unlink()
        await scene.is_over("Ws2apiBackendFailing")
        stage.say("the same with display_errors: 200 and HTML, which is no JSON")

        backend.process.signal(signal.SIGSTOP)
        told = len(scene.lines())
        await scene.says("Ws2apiBackendDown", "is down", "takes requests and answers none")
        await push_and_answer(session, node, stations[0])
        await until("the outcome to be named", lambda: scene.line("result_ttl", "CP-0", "p-lost"))
        over = [line for line in scene.lines()[told:] if "is down" in line and "over after" in line]
        assert not over, f"nothing was answered: {over}"
        backend.process.signal(signal.SIGCONT)
        await scene.is_over("Ws2apiBackendDown")
        stage.say("SIGSTOP: down, on both shards, and the outcome that was given up has its name; SIGCONT: over")

        await backend.stop()
        await scene.says("Ws2apiBackendDown", "is down", "can't be connected to")
        end.set()
        await traffic
        # Nobody asks any more.
        await asyncio.gather(*(station.close() for station in stations))
        await backend.start("display_errors=0")
        await scene.is_over("Ws2apiBackendDown")
        stage.say("killed and started anew: found again, although nobody asks")
        lines = scene.lines()
        assert len(lines) < 120, f"{len(lines)} lines"
    await node.stop()
    await backend.stop()


class Scene:
    def __init__(self, stage, node, prometheus, backend):
        self.stage, self.node, self.prometheus, self.backend = stage, node, prometheus, backend

    def lines(self):
        return self.node.process.output().splitlines()

    def line(self, *words):
        return next((line for line in self.lines() if all(word in line for word in words)), None)

    async def is_calm(self, when):
        async def is_so():
            return await self.prometheus.alerts() == set()

        await until(f"no alert {when}", is_so)

    async def says(self, alert, *words):
        """Prometheus has the alert, pending or firing, and the log the backend's name and these words."""

        async def is_told():
            return alert in await self.prometheus.alerts()

        await until(alert, is_told)
        await until(f"the log to say {words}", lambda: self.line("ERROR", self.backend.url, *words))

    async def is_over(self, alert):
        """For both: what the log said last of the backend is that it is over."""

        async def is_so():
            return alert not in await self.prometheus.alerts()

        await until(f"the end of {alert}", is_so)
        lasts = lambda line: "over after" not in line and line_of_backend(line)
        await until("the log to say so", lambda: not lasts([line for line in self.lines() if line_of_backend(line)][-1]))


def line_of_backend(line):
    return "Backend http://" in line


class Php:
    """`php -S` with eight workers."""

    def __init__(self, stage):
        self.stage = stage
        self.port = stage.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.script = stage.folder / "backend.php"
        self.script.write_text(BACKEND)
        self.crash = stage.folder / "crash"
        self.process = None

    async def start(self, setting):
        environment = {"PHP_CLI_SERVER_WORKERS": "8"}
        arguments = ["-d", setting, "-S", f"127.0.0.1:{self.port}", self.script]
        self.process = await self.stage.start("php", "php", *arguments, env=environment)
        await until("php -S", lambda: listens("127.0.0.1", self.port))

    async def stop(self):
        await self.process.kill()


async def call_on(end, station):
    """Calls from time to time, whatever the answer is."""
    while not end.is_set():
        await station.call("Heartbeat", {})
        await asyncio.sleep(0.5)


async def push_and_answer(session, node, station):
    """A push that the client answers and the backend does not hear of."""
    url = node.url("ingress") + f"/call/Reset/{station.name}/p-lost"
    async with session.post(url, json={}) as answer:
        assert answer.status == 202, answer.status
