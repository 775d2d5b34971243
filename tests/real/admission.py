"""Shows who comes in through a balancer, and who does not."""

from station import Refused, Station


async def admitted(fleet, session, name, **how):
    """Connects and goes away; the headers that `/connect` had."""
    station = await Station(session, fleet.base, name, **how).connect()
    await station.echo()
    await station.close()
    return fleet.backend.connect_of(name)


async def refused(fleet, session, name, status, **how):
    """Is not let in with that status, and the backend was not asked."""
    try:
        await Station(session, fleet.base, name, **how).connect()
    except Refused as error:
        assert error.status == status, f"{name}: {error}"
    else:
        raise AssertionError(f"{name} came in")
    assert fleet.backend.connect_of(name) is None, f"the backend was asked about {name}"
