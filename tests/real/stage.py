"""Gives a scene its stage: a folder, free ports, child processes. All of it is gone at the end, however it ends."""

import asyncio
import ctypes
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# How long anything may take. Only a broken program comes near.
DEADLINE = 60.0
PR_SET_PDEATHSIG = 1


class Process:
    """A child process, in a process group of its own; its output goes to a file."""

    def __init__(self, name, process, log):
        self.name = name
        self.process = process
        self.log = log

    def is_running(self):
        return self.process.returncode is None

    def signal(self, number):
        os.killpg(self.process.pid, number)

    async def terminate(self):
        """SIGTERM, and waits for its end; its exit code."""
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), DEADLINE)

    async def kill(self):
        try:
            self.signal(signal.SIGKILL)
        except ProcessLookupError:
            pass
        await self.process.wait()

    def resident(self):
        """Memory that it has in RAM, in bytes."""
        return resident(self.process.pid)

    def cpu(self):
        """Seconds of processor time that it has used."""
        return cpu(self.process.pid)

    def cpu_of_children(self):
        """The same of its children, those that have ended among them."""
        ended = seconds(stat(self.process.pid), 13, 14)
        return ended + sum(seconds(fields, 11, 12) for fields in map(stat, self.children()) if fields)

    def children(self):
        text = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for file in text for pid in file.read_text().split()]

    def output(self):
        return self.log.read_text(errors="replace")


def resident(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


def cpu(pid):
    return seconds(stat(pid), 11, 12)


def stat(pid):
    """The fields of /proc/PID/stat after the name; none if it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def seconds(fields, *indices):
    return sum(int(fields[index]) for index in indices) / os.sysconf("SC_CLK_TCK")


class Stage:
    """Used with `async with`. Files are kept if the scene fails."""

    def __init__(self, name):
        base = ROOT / "target" / "real-world"
        base.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
        # A server that drops its privileges has to get at its files.
        self.folder.chmod(0o755)
        self.processes = []
        self.taken = set()
        self.started = time.monotonic()

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, trace):
        for process in reversed(self.processes):
            # Its group, too, may outlive it.
            await process.kill()
        if kind is None:
            shutil.rmtree(self.folder)
            return
        for process in self.processes:
            lines = process.output().splitlines()[-30:]
            print(f"---- {process.name} ----", *lines, sep="\n", file=sys.stderr)
        print(f"all files: {self.folder}", file=sys.stderr)

    def say(self, text):
        print(f"  {time.monotonic() - self.started:5.1f} s  {text}", flush=True)

    def port(self, *hosts):
        """A port that is free on all these addresses. Below those that the kernel gives to outgoing connections."""
        for _ in range(1000):
            port = random.randrange(20000, 32000)
            if port in self.taken:
                continue
            sockets = [socket.socket() for _ in hosts or ("127.0.0.1",)]
            try:
                for host, probe in zip(hosts or ("127.0.0.1",), sockets):
                    probe.bind((host, port))
            except OSError:
                continue
            finally:
                for probe in sockets:
                    probe.close()
            self.taken.add(port)
            return port
        raise AssertionError("no free port")

    async def start(self, name, *argv, env=None, cwd=None):
        log = self.folder / f"{name}-{len(self.processes)}.log"
        libc = ctypes.CDLL(None)

        def prepare():
            # Should this process be killed, its children are too.
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *map(str, argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd or ROOT,
                start_new_session=True,
                preexec_fn=prepare,
            )
        child = Process(name, process, log)
        self.processes.append(child)
        return child

    async def run(self, name, *argv, env=None, cwd=None, deadline=DEADLINE):
        """Runs a program to its end, which has to be a good one; its output."""
        child = await self.start(name, *argv, env=env, cwd=cwd)
        code = await asyncio.wait_for(child.process.wait(), deadline)
        assert code == 0, f"{name} ended with {code}:\n{child.output()}"
        return child.output()


async def until(what, condition, deadline=DEADLINE):
    """Asks again and again until there is an answer that is true. Only for what nobody announces."""
    started = time.monotonic()
    while True:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() - started < deadline, f"waited {deadline:.0f} s for {what}"
        await asyncio.sleep(0.02)


async def listens(host, port):
    """True when somebody accepts there."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
