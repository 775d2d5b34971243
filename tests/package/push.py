"""Plays the backend, one charge point and a push against a ws2api on its default addresses; ends with 0 if each got what it should.

Needs nothing but Python. `push.py over COMMAND…` does it once more with the same connection when the command has had a new process take
over. `push.py lo` only sets up the loopback device, which a new network namespace has down.
"""

import base64
import fcntl
import http.client
import http.server
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

LISTEN, INGRESS, ADMIN, BACKEND = (("127.0.0.1", port) for port in (4000, 4001, 4002, 5000))
DEADLINE = 30.0
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        Backend.seen.append((self.path, body))
        answer = {"connect": '"ok"', "call": '{"currentTime":"2026-11-30T00:00:00Z"}'}.get(self.path.split("/")[1], "")
        self.send_response(200 if answer else 204)
        if answer:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_):
        pass


class Station:
    """A WebSocket client with short frames, none of them fragmented."""

    def __init__(self, client_id):
        self.socket = socket.create_connection(LISTEN, DEADLINE)
        self.socket.sendall(
            f"GET /{client_id} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.exactly(1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def exactly(self, count):
        taken = b""
        while len(taken) < count:
            some = self.socket.recv(count - len(taken))
            assert some, "the connection has ended"
            taken += some
        return taken

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        assert len(data) < 126
        self.socket.sendall(bytes([0x81, 0x80 | len(data)]) + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data)))

    def receive(self):
        first, length = self.exactly(2)
        assert (first, length < 126) == (0x81, True), (first, length)
        return self.exactly(length).decode()


def until(what, ask):
    end = time.monotonic() + DEADLINE
    while not (answer := ask()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
    return answer


def request(address, method, path, body=None):
    connection = http.client.HTTPConnection(*address, timeout=DEADLINE)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def set_loopback_up():
    with socket.socket() as any_socket:
        name = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, name))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def main():
    if sys.argv[1:] == ["lo"]:
        set_loopback_up()
        return
    server = http.server.ThreadingHTTPServer(BACKEND, Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    until("readiness", lambda: request(ADMIN, "GET", "/readyz")[0] == 200)
    # Of its own: the end of another run's may be told to this backend.
    client_id = f"CP{os.getpid()}"
    station = Station(client_id)
    talk(station, client_id, 1)
    if sys.argv[1:2] == ["over"]:
        subprocess.run(sys.argv[2:], check=True)
        until("the new process to be alone", is_alone)
        talk(station, client_id, 2)
        asked = [path for path, body in Backend.seen if path in ("/connect", "/disconnect") and f'"{client_id}"' in body]
        assert asked == ["/connect"], asked


def talk(station, client_id, number):
    station.send(f'[2,"{number}","Heartbeat",{{}}]')
    assert json.loads(station.receive()) == [3, f"{number}", {"currentTime": "2026-11-30T00:00:00Z"}]
    status, body = request(INGRESS, "POST", f"/call/Reset/{client_id}/p{number}", '{"type":"Soft"}')
    assert status == 202, (status, body)
    assert station.receive() == f'[2,"p{number}","Reset",{{"type":"Soft"}}]'
    station.send(f'[3,"p{number}",{{"status":"Accepted"}}]')
    until("the outcome", lambda: (f"/result/Reset/{client_id}/p{number}", '{"status":"Accepted"}') in Backend.seen)


def is_alone():
    status, body = request(ADMIN, "GET", "/upgrade")
    if status != 200:
        return False
    told = json.loads(body)
    return not (told["underWay"] or told["hasPredecessor"] or told["isTakenOver"])


main()
