"""Runs one scene: python tests/real SCENE [--long]. scripts/real-world sees to what they need."""

import asyncio
import signal
import sys

import balancer
import scene_alarms
import scene_backends
import scene_balancer
import scene_capacity
import scene_clients
import scene_cluster
import scene_compression
import scene_https
import scene_large
import scene_load
import scene_one
import scene_overload
import scene_roadrunner
import scene_tls
import scene_traces
import scene_upgrade
from stage import Stage

SCENES = {
    "haproxy": lambda stage, long: scene_balancer.play(balancer.HAProxy(stage), long),
    "haproxy-one": scene_one.play,
    "haproxy-200000": lambda stage, long: scene_large.play(balancer.LargeHAProxy(stage), long),
    "nginx": lambda stage, long: scene_balancer.play(balancer.Nginx(stage), long),
    "alarms": scene_alarms.play,
    "clients": scene_clients.play,
    "cluster": scene_cluster.play,
    "compression": scene_compression.play,
    "backends": scene_backends.play,
    "roadrunner": scene_roadrunner.play,
    "overload": scene_overload.play,
    "capacity": scene_capacity.play,
    "traces": scene_traces.play,
    "upgrade": scene_upgrade.play,
    "load": scene_load.play,
    "tls": scene_tls.play,
    "https": scene_https.play,
}


async def main(name, long):
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    print(f"{name}:", flush=True)
    async with asyncio.timeout(3600 if long else 600), Stage(name) as stage:
        await SCENES[name](stage, long)
        stage.say("all as it should be")


if __name__ == "__main__":
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    if len(names) != 1 or names[0] not in SCENES:
        sys.exit(f"one of {', '.join(SCENES)}")
    asyncio.run(main(names[0], "--long" in sys.argv))
