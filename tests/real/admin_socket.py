"""Talks to HAProxy's admin socket, as an operator does with socat."""

import socket


class AdminSocket:
    def __init__(self, path):
        self.path = path

    def ask(self, text):
        """The answer to a command; nothing if nobody is there."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self.path))
            except OSError:
                return ""
            connection.sendall(text.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def field(self, command, name):
        """What stands behind `name:` in the answer."""
        lines = self.ask(command).replace(", ", "\n").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(name + ":")), "")
