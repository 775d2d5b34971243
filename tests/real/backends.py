"""Starts real HTTP servers as the backend: each is on a port of its own, and says what it is like."""

import os
import re
import shutil
import signal
import socket
import sys

from stage import DEADLINE, ROOT, listens, until


class Server:
    """`frames`: how its answers are framed; `keeps`: whether it keeps connections; `can_start`: it is the PHP application."""

    can_start = True
    keeps = True
    line_in = None

    def __init__(self, stage, workers=None):
        """`workers`: so many instead of what its file says."""
        self.stage = stage
        self.worker_count = workers
        self.port = stage.port()
        self.running = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def environment(self, node):
        return {"WS2API_INGRESS": node.url("ingress"), "WS2API_STATE": str(self.stage.folder / f"{self.name}-state")}

    def arguments(self):
        """Those for ws2api, as the file that says how to start it has them."""
        if self.line_in is None:
            return []
        text = (ROOT / "examples" / self.line_in).read_text()
        return re.search(r"release/ws2api --config \S*config/ws2api.toml (.+)", text)[1].split()

    async def start(self, node):
        await self.launch(node)
        await until(f"{self.name} to serve", lambda: listens("127.0.0.1", self.port))

    async def stop(self):
        """As an operator does it."""
        for process in self.running:
            await process.terminate()
        self.running = []

    async def kill(self):
        """As a machine does it that loses power."""
        for process in self.running:
            await process.kill()
        self.running = []

    def cpu(self):
        """Seconds of processor time: of what is before PHP, and of PHP's workers, also of those that have ended."""
        return 0.0, sum(process.cpu() + process.cpu_of_children() for process in self.running)

    def logs(self):
        names = {process.log for process in self.stage.processes if process.name.startswith(self.name)}
        return "".join(log.read_text(errors="replace") for log in names)

    def raw_answer(self, request):
        """All that it sends for these bytes until nothing comes for a while, or it closes. Whether it closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(request)
            answer = b""
            try:
                while piece := connection.recv(65536):
                    answer += piece
                return answer.decode(), True
            except TimeoutError:
                return answer.decode(), False


class PhpBuiltIn(Server):
    """`php -S`: every answer ends with its connection."""

    name = "php-S"
    keeps = False
    frames = "close-delimited"
    line_in = "app/index.php"

    async def launch(self, node):
        workers = re.search(r"PHP_CLI_SERVER_WORKERS=(\d+)", (ROOT / "examples" / self.line_in).read_text())[1]
        environment = {**self.environment(node), "PHP_CLI_SERVER_WORKERS": str(self.worker_count or workers)}
        command = ["php", "-S", f"127.0.0.1:{self.port}", ROOT / "examples/app/index.php"]
        self.running = [await self.stage.start(self.name, *command, env=environment)]

    async def stop(self):
        # Its workers do not notice that it has gone: Ctrl-C and systemd tell all of them.
        for process in self.running:
            process.signal(signal.SIGTERM)
        await super().stop()


class PhpFpm(Server):
    """examples/php-fpm, its ports and its files moved to ours."""

    name = "php-fpm"
    frames = "chunked"
    line_in = "php-fpm/nginx.conf"

    def program(self):
        names = ["php-fpm", *(f"php-fpm8.{minor}" for minor in range(9, 0, -1))]
        found = next((path for name in names if (path := shutil.which(name))), None)
        assert found, "PHP-FPM is not there"
        return found

    async def launch(self, node):
        folder = self.stage.folder
        # /tmp, where it is otherwise, lets everybody make folders.
        (folder / "example-state").mkdir(exist_ok=True)
        (folder / "example-state").chmod(0o777)
        self.write(node)
        fpm = await self.stage.start(f"{self.name}-workers", self.program(), "-F", "--fpm-config", folder / "php-fpm.conf")
        nginx = ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"]
        self.running = [await self.stage.start(f"{self.name}-nginx", *nginx), fpm]
        await until("the workers", lambda: (folder / "example-fpm.sock").exists())

    def write(self, node):
        """Its files."""
        folder = self.stage.folder
        for name in ("php-fpm.conf", "nginx.conf"):
            text = (ROOT / "examples/php-fpm" / name).read_text()
            for old, new in {
                "/tmp/ws2api-example": str(folder / "example"),
                "127.0.0.1:5000": f"127.0.0.1:{self.port}",
                "http://127.0.0.1:4001": node.url("ingress"),
                "root ../app": f"root {ROOT}/examples/app",
            }.items():
                text = text.replace(old, new)
            if self.worker_count:
                text = re.sub(r"(pm.max_children =) \d+", rf"\1 {self.worker_count}", text)
            (folder / name).write_text(self.adapted(name, text))

    def adapted(self, name, text):
        """That file, changed further."""
        return text

    async def kill(self):
        await super().kill()
        (self.stage.folder / "example-fpm.sock").unlink(missing_ok=True)

    def logs(self):
        return (self.stage.folder / "example-fpm.log").read_text(errors="replace")


class RoadRunner(Server):
    """The real one with examples/roadrunner as it is, its ports moved to ours. scripts/roadrunner says where the program is."""

    name = "roadrunner"
    frames = "chunked"
    line_in = "roadrunner/.rr.yaml"

    def __init__(self, stage, **pool):
        super().__init__(stage)
        self.control = stage.port()
        self.pool = pool

    @staticmethod
    def rr():
        return os.environ["RR"]

    async def launch(self, node):
        self.folder = lay_examples(self.stage)
        self.version = (await self.stage.run("rr-version", self.rr(), "--version")).split()[2]
        options = {"http.address": f"127.0.0.1:{self.port}", "rpc.listen": f"tcp://127.0.0.1:{self.control}"}
        if self.version.startswith("2."):
            # It refuses a file of version 3, though it knows all that ours has.
            options["version"] = "2.7"
        options |= {f"http.pool.{name}": value for name, value in self.pool.items()}
        self.options = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        command = [self.rr(), "serve", *self.options]
        self.running = [await self.stage.start(self.name, *command, env=self.environment(node), cwd=self.folder)]

    async def ask(self, *words):
        return await self.stage.run("rr", self.rr(), *words, *self.options, cwd=self.folder)

    async def workers(self):
        """Process id to state (`ready`, `working`, …)."""
        table = await self.ask("workers")
        return {int(pid): state for pid, state in re.findall(r"[│|]\s+(\d+)\s+[│|]\s+(\w+)\s+[│|]", table)}

    async def kill(self):
        # Without rr its workers end by themselves: their standard input does.
        for process in self.running:
            process.process.kill()
            await process.process.wait()
        await super().kill()

    def cpu(self):
        """Seconds of processor time: RoadRunner's own, and that of all its workers, also of those that have ended."""
        rr = self.running[0]
        return rr.cpu(), rr.cpu_of_children()

    def logs(self):
        """Its lines are JSON, and what a worker wrote in one go is one of them."""
        return super().logs().replace('\\"', '"').replace("\\n", "\n")


class RoadRunnerStandIn(Server):
    """examples/roadrunner/worker.php, and a stand-in for RoadRunner: tests/real/roadrunner/pool.py."""

    name = "roadrunner-worker"
    frames = "chunked"

    async def launch(self, node):
        folder = lay_examples(self.stage)
        pool = [sys.executable, ROOT / "tests/real/roadrunner/pool.py", f"127.0.0.1:{self.port}", "4", "php", "worker.php"]
        self.running = [await self.stage.start(self.name, *pool, env=self.environment(node), cwd=folder)]


def lay_examples(stage):
    """A copy of examples/roadrunner that needs no Composer; where it is."""
    folder = stage.folder / "laid"
    for name in ("examples", "php"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    vendor = folder / "examples/roadrunner/vendor"
    vendor.mkdir(exist_ok=True)
    for name in ("autoload.php", "relay.php"):
        shutil.copy(ROOT / "tests/real/roadrunner" / name, vendor)
    return vendor.parent


class Go(Server):
    """net/http, tests/real/backend.go: the Action says how the answer is framed."""

    name = "go"
    frames = "length"
    can_start = False

    async def launch(self, node):
        program = self.stage.folder / "backend"
        if not program.exists():
            cache = {"GOCACHE": str(ROOT / "target/real-world/go"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
            source = ROOT / "tests/real/backend.go"
            # The first time it builds Go's own library, too.
            await self.stage.run("go-build", "go", "build", "-o", program, source, env=cache, deadline=4 * DEADLINE)
        self.running = [await self.stage.start(self.name, program, f"127.0.0.1:{self.port}")]
