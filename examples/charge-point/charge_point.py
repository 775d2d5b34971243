"""Plays a tiny charge point (OCPP 1.6). It boots, sends heartbeats, answers what it is asked, and comes back when it is cut off.

python3 -m pip install websockets
python3 examples/charge-point/charge_point.py ws://127.0.0.1:4000/CP1
"""

import asyncio
import json
import random
import sys
import uuid

import websockets


async def charge(url):
    async with websockets.connect(url, subprotocols=["ocpp1.6"]) as socket:
        waiting = {}

        async def call(action, payload):
            message_id = str(uuid.uuid4())
            answer = waiting[message_id] = asyncio.get_running_loop().create_future()
            await socket.send(json.dumps([2, message_id, action, payload]))
            frame = await asyncio.wait_for(answer, 30)
            print(f"{action}: {frame[2:]}", flush=True)
            if frame[0] == 4:
                raise RuntimeError(f"{action} was refused")
            return frame[2]

        async def live():
            boot = await call("BootNotification", {"chargePointVendor": "Example", "chargePointModel": "Tiny"})
            await call("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Available"})
            while True:
                await asyncio.sleep(boot["interval"])
                await call("Heartbeat", {})

        async def listen():
            async for text in socket:
                frame = json.loads(text)
                if frame[0] == 2:  # A Call for us: always answer.
                    print(f"asked for {frame[2]}: {frame[3]}", flush=True)
                    known = frame[2] in ("RemoteStartTransaction", "RemoteStopTransaction", "Reset")
                    error = [4, frame[1], "NotImplemented", f"no {frame[2]} here", {}]
                    await socket.send(json.dumps([3, frame[1], {"status": "Accepted"}] if known else error))
                elif frame[1] in waiting:
                    waiting.pop(frame[1]).set_result(frame)
            raise ConnectionError(f"closed with {socket.close_code}")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(live())
            tasks.create_task(listen())


async def main(url):
    pause = 1
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await charge(url)
        except* (OSError, RuntimeError, asyncio.TimeoutError, websockets.WebSocketException) as errors:
            print(f"cut off: {errors.exceptions[0]}", flush=True)
        # Twice as long each time, and never all charge points at once.
        pause = 1 if asyncio.get_running_loop().time() - started > 60 else min(2 * pause, 300)
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:4000/CP1"))
    except KeyboardInterrupt:
        pass
