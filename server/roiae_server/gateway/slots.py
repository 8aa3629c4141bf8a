"""Who holds the open connections: strangers a small share of their own, each enrolled site a share that is its alone.

Until its first signed request a connection is a stranger's, also that of a hospital that has just connected. So a share
that is full turns nobody away: the newcomer takes the place of another, and where addresses differ, of one of whoever
holds most. A crowd thus displaces itself. An address from which a site has spoken lately has a share of its own for
what is not signed yet: there a crowd elsewhere displaces nothing at all.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from roiae_server.gateway.roll import Caller

Who = TypeVar("Who", str, Caller)

_HOMES = 4  # addresses of one site that have a share of their own: the last from which it spoke


class Held(Protocol):
    """An open connection."""

    origin: str
    caller: Caller | None  # who was the first to sign a request on it

    def cut(self) -> None: ...


class Slots:
    """
    Args:
        strangers: connections of all addresses together that have shown no enrolled key.
        stranger: of one such address, and of one from which a site has spoken.
        site: of one enrolled site.
    """

    def __init__(self, strangers: int, stranger: int, site: int) -> None:
        self._strangers, self._stranger, self._site = strangers, stranger, site
        self._unknown: dict[str, list[Held]] = {}  # by address, oldest first
        self._known: dict[Caller, list[Held]] = {}
        self._homes: dict[Caller, OrderedDict[str, None]] = {}

    def enter(self, held: Held) -> None:
        """Count a new connection, and cut another where it is one too many."""
        self._unknown.setdefault(held.origin, []).append(held)
        own = self._unknown[held.origin]
        if len(own) > self._stranger:
            _cut_oldest(own)
            return
        homes = {home for known in self._homes.values() for home in known}
        crowd = {origin: of_one for origin, of_one in self._unknown.items() if origin not in homes}
        if held.origin in crowd and sum(map(len, crowd.values())) > self._strangers:
            _cut_oldest(max(crowd.values(), key=len))  # of equals, the first that came

    def at_home(self, held: Held) -> bool:
        """Whether a site has spoken from its address."""
        return any(held.origin in known for known in self._homes.values())

    def promote(self, held: Held, caller: Caller) -> None:
        """A connection has shown an enrolled key: from now on it is that site's, and takes no stranger's place."""
        homes = self._homes.setdefault(caller, OrderedDict())
        homes[held.origin] = None
        homes.move_to_end(held.origin)
        if len(homes) > _HOMES:
            homes.popitem(last=False)
        self.leave(held)
        held.caller = caller
        own = self._known.setdefault(caller, [])
        own.append(held)
        if len(own) > self._site:
            _cut_oldest(own)

    def leave(self, held: Held) -> None:
        """A connection is gone, whoever ended it."""
        if held.caller is not None:
            _drop(self._known, held.caller, held)
        else:
            _drop(self._unknown, held.origin, held)

    def keep(self, enrolled: Callable[[Caller], bool]) -> None:
        """Cut the connections of all whose key is not enrolled any more."""
        for caller in [caller for caller in {*self._known, *self._homes} if not enrolled(caller)]:
            self._homes.pop(caller, None)
            for held in self._known.pop(caller, []):
                held.cut()

    def counts(self) -> tuple[int, int]:
        """Open connections of strangers, and of sites."""
        return _total(self._unknown.values()), _total(self._known.values())


def _cut_oldest(of_one: list[Held]) -> None:
    of_one.pop(0).cut()


def _drop(pool: dict[Who, list[Held]], key: Who, held: Held) -> None:
    of_one = pool.get(key, [])
    if held in of_one:
        of_one.remove(held)
    if not of_one:
        pool.pop(key, None)


def _total(pool: Iterable[list[Held]]) -> int:
    return sum(map(len, pool))
