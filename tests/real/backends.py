"""Real HTTP servers as the backend: each is started on a port of its own, and says what it is like."""

import shutil
import signal
import socket

from stage import ROOT, listens, until


class Server:
    """`frames`: how its answers are framed; `keeps`: whether it keeps connections; `can_start`: it is the PHP application."""

    can_start = True
    keeps = True

    def __init__(self, stage):
        self.stage = stage
        self.port = stage.port()
        self.running = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def environment(self, node):
        return {"WS2API_INGRESS": node.url("ingress")}

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

    async def launch(self, node):
        environment = {**self.environment(node), "PHP_CLI_SERVER_WORKERS": "8"}
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

    def program(self):
        names = ["php-fpm", *(f"php-fpm8.{minor}" for minor in range(9, 0, -1))]
        found = next((path for name in names if (path := shutil.which(name))), None)
        assert found, "PHP-FPM is not there"
        return found

    async def launch(self, node):
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
            (folder / name).write_text(text)
        fpm = await self.stage.start(f"{self.name}-workers", self.program(), "-F", "--fpm-config", folder / "php-fpm.conf")
        nginx = ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"]
        self.running = [await self.stage.start(f"{self.name}-nginx", *nginx), fpm]
        await until("the workers", lambda: (folder / "example-fpm.sock").exists())

    async def kill(self):
        await super().kill()
        (self.stage.folder / "example-fpm.sock").unlink(missing_ok=True)

    def logs(self):
        return (self.stage.folder / "example-fpm.log").read_text(errors="replace")


class RoadRunnerWorker(Server):
    """examples/roadrunner/worker.php, with a stand-in for RoadRunner itself."""

    name = "roadrunner-worker"
    frames = "length"

    async def launch(self, node):
        folder = self.stage.folder / "examples"
        shutil.copytree(ROOT / "examples", folder, dirs_exist_ok=True)
        vendor = folder / "roadrunner/vendor"
        vendor.mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests/real/roadrunner/autoload.php", vendor)
        environment = {**self.environment(node), "STAND_IN_PORT": str(self.port)}
        command = ["php", folder / "roadrunner/worker.php"]
        self.running = [await self.stage.start(self.name, *command, env=environment)]


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
            await self.stage.run("go-build", "go", "build", "-o", program, source, env=cache)
        self.running = [await self.stage.start(self.name, program, f"127.0.0.1:{self.port}")]
