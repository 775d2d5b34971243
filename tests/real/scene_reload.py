"""Tells a balancer to read its files again, under its clients: a new certificate, and nobody is lost."""

import asyncio
import shutil

from admission import admitted, refused
from balancer import ORIGIN, TOKEN, certificate_shown
from stage import until
from station import Pusher


async def check_reload(fleet, session, stations):
    """Puts a new certificate in the place of the old one, reloads, and pushes to everybody, wherever they are."""
    pusher = Pusher(session, fleet.ingress, TOKEN)
    before = {station.name: (station.connects, len(station.closes)) for station in stations}
    known = fleet.remembered() if fleet.has_memory else None
    old = await shown(fleet)
    fresh = await fleet.authority.issue("localhost", "DNS:localhost")
    shutil.copyfile(fresh, fleet.certificate)
    fleet.rewrite("https://app", "https://moved")
    await fleet.reload()
    await until("the new certificate", lambda: shows_another(fleet, old))
    lost = {}
    for station in stations:
        status, body, message_id = await pusher.push(station.name)
        if status == 202:
            await fleet.backend.outcome(message_id)
        else:
            lost[status] = lost.get(status, 0) + 1
    assert not lost, f"pushes to clients that are connected, after the reload: {lost}"
    if known is not None:
        assert fleet.remembered() == known, f"of {known} clients {fleet.remembered()} are remembered"
    cut_off = [station.name for station in stations if (station.connects, len(station.closes)) != before[station.name]]
    assert not cut_off, f"a reload cut off {cut_off}"
    moved = ORIGIN.replace("https://app", "https://moved")
    context = fleet.context()
    await admitted(fleet, session, "moved", ssl=context, headers={"Origin": moved})
    await refused(fleet, session, "not-moved", 403, ssl=context, headers={"Origin": ORIGIN})
    fleet.rewrite("https://moved", "https://app")
    fleet.stage.say(f"reload: certificate and names are the new ones, {len(stations)} clients stay and get their pushes")


async def shown(fleet):
    """The fingerprint of the certificate that the balancer shows to who comes now."""
    return await asyncio.to_thread(certificate_shown, fleet.clients_port, fleet.context())


async def shows_another(fleet, old):
    return await shown(fleet) != old
