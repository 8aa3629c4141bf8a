"""Who keeps a connection when there are too many."""

from dataclasses import dataclass

from roiae_server.gateway.roll import Caller
from roiae_server.gateway.slots import Slots
from tests.server.gateway.node_calls import new_key

ALPHA, BETA = (Caller(name, name.encode(), new_key().public_key()) for name in ("alpha", "beta"))


@dataclass(eq=False)
class Held:
    origin: str
    slots: Slots
    caller: Caller | None = None
    open: bool = True

    def cut(self) -> None:
        self.open = False
        self.slots.leave(self)


def enter(slots: Slots, origin: str, number: int = 1) -> list[Held]:
    connections = [Held(origin, slots) for _ in range(number)]
    for connection in connections:
        slots.enter(connection)
    return connections


def test_a_stranger_beyond_its_share_displaces_its_own_oldest() -> None:
    slots = Slots(strangers=10, stranger=3, site=2)
    other, own = enter(slots, "b"), enter(slots, "a", 5)

    assert [held.open for held in own] == [False, False, True, True, True]
    assert other[0].open


def test_a_crowd_displaces_itself_and_not_who_holds_one() -> None:
    slots = Slots(strangers=6, stranger=4, site=2)
    (hospital,) = enter(slots, "hospital")
    crowd = [held for place in range(20) for held in enter(slots, f"crowd {place % 4}", 3)]

    assert hospital.open
    assert sum(held.open for held in crowd) == 5


def test_of_strangers_with_one_each_the_oldest_goes() -> None:
    slots = Slots(strangers=3, stranger=4, site=2)
    crowd = [held for place in range(5) for held in enter(slots, str(place))]

    assert [held.open for held in crowd] == [False, False, True, True, True]


def test_what_a_site_has_shown_to_be_its_own_is_displaced_by_its_own_alone() -> None:
    slots = Slots(strangers=2, stranger=2, site=2)
    own = [held for _ in range(3) for held in enter(slots, "nat")]
    for held in own:
        slots.promote(held, ALPHA)
    enter(slots, "nat", 100)
    enter(slots, "elsewhere", 100)
    (others,) = enter(slots, "nat")
    slots.promote(others, BETA)

    assert [held.open for held in own] == [False, True, True]
    assert others.open
    assert slots.counts() == (2 + 1, 3)  # at elsewhere's two, at the nat's own what is left of two, and the sites'


def test_where_a_site_has_spoken_from_a_crowd_elsewhere_displaces_nothing() -> None:
    slots = Slots(strangers=4, stranger=2, site=2)
    (first,) = enter(slots, "hospital")
    slots.promote(first, ALPHA)
    (again,) = enter(slots, "hospital")
    for place in range(1000):
        enter(slots, f"crowd {place}", 2)

    assert again.open
    assert slots.counts() == (4 + 1, 1)


def test_a_site_has_few_addresses_of_its_own() -> None:
    slots = Slots(strangers=4, stranger=2, site=100)
    for place in range(10):
        for held in enter(slots, f"roaming {place}"):
            slots.promote(held, ALPHA)
    left = [held for place in range(10) for held in enter(slots, f"roaming {place}")]

    assert sum(held.open for held in left) == 4 + 4  # the share of all strangers, and the four last addresses


def test_a_key_that_is_removed_loses_its_connections_and_its_place() -> None:
    slots = Slots(strangers=1, stranger=2, site=2)
    (held,), (other,) = enter(slots, "a"), enter(slots, "b")
    slots.promote(other, BETA)
    slots.promote(held, ALPHA)
    slots.keep(lambda caller: caller == BETA)
    late = enter(slots, "a") + enter(slots, "c")

    assert (held.open, other.open) == (False, True)
    assert [one.open for one in late] == [False, True]


def test_nothing_is_left_of_who_is_gone() -> None:
    slots = Slots(strangers=5, stranger=2, site=2)
    held = [one for place in range(100) for one in enter(slots, str(place), 3)]
    for one in held[-2:]:
        slots.promote(one, ALPHA)
    for one in held:
        slots.leave(one)

    assert slots.counts() == (0, 0)
    assert not slots._unknown and not slots._known
