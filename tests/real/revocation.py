"""Revokes chargers' certificates while HAProxy runs."""

import asyncio
import socket
import ssl

import aiohttp

from balancer import Second
from stage import ROOT
from station import Station


async def check_revocation(fleet, session):
    """A second HAProxy with a list of revoked certificates, which is replaced at its socket."""
    good, lost = [await fleet.authority.issue(name) for name in ("CP-good", "CP-lost")]
    crl = fleet.stage.folder / "crl.pem"
    crl.write_text(await fleet.authority.revocations())
    second = await Second(fleet).start(CLIENT_CRL=str(crl))
    worker = second.admin.field("show info", "Pid")
    come = lambda name, certificate: comes_in(second, session, name, fleet.context(certificate))
    assert await come("CP-good", good) and await come("CP-lost", lost) and await come("CP-bare", None)
    resumed = tls_1_2(fleet, lost)
    session_before = await asyncio.to_thread(session_of, second.clients_port, resumed)
    leaf = next(path for path in fleet.authority.folder.glob("*.crt") if path.read_text() in lost.read_text())
    await replace(fleet, second, crl, await fleet.authority.revocations(leaf))
    assert not await come("CP-lost", lost), "a revoked certificate came in"
    try:
        await asyncio.to_thread(session_of, second.clients_port, resumed, session_before)
    except (ssl.SSLError, ConnectionError):
        pass
    else:
        raise AssertionError("a revoked certificate came in with the session that it had before")
    assert await come("CP-good", good) and await come("CP-bare", None)
    # What an operator forgets in time.
    await replace(fleet, second, crl, await fleet.authority.revocations(expired=True))
    assert not await come("CP-good", good), "an expired list lets nobody in"
    assert await come("CP-bare", None)
    assert second.admin.field("show info", "Pid") == worker, "all that without a reload"
    await second.process.terminate()
    fleet.stage.say("a revoked certificate is refused without a reload; an expired list refuses every certificate")


def tls_1_2(fleet, certificate):
    """The version in which a session is known as soon as the handshake is over."""
    context = fleet.context(certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def session_of(port, context, session=None):
    """A TLS session, begun or resumed."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        with context.wrap_socket(connection, server_hostname="localhost", session=session) as tls:
            return tls.session


async def replace(fleet, second, crl, text):
    crl.write_text(text)
    await fleet.stage.run("haproxy-set", ROOT / "scripts/haproxy-set", "crl-file", crl, second.admin.path)


async def comes_in(second, session, name, context):
    station = Station(session, second.base, name, ssl=context)
    try:
        await station.connect()
        await station.echo()
    except (aiohttp.ClientError, ssl.SSLError, ConnectionError):
        return False
    finally:
        await station.close()
    return True
