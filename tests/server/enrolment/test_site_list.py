import pytest

from roiae.config import Role
from roiae.errors import SetupError
from roiae.identity.keys import SiteKeys
from roiae_server.enrolment.site_list import with_keys, with_site, without_site
from tests.signing import new_keys

KEYS_A, KEYS_B = new_keys(), new_keys()
SITES = with_site(with_site({}, "hospital-a", Role.SOURCE, KEYS_A), "hospital-b", Role.HELD_OUT, KEYS_B)


def test_an_enrolled_site_has_its_role_and_key() -> None:
    assert (SITES["hospital-b"].role, SITES["hospital-b"].keys) == (Role.HELD_OUT, KEYS_B)
    assert SITES["hospital-b"].reply_key.endswith(" hospital-b")
    assert SITES["hospital-b"].node_key.endswith(" hospital-b")


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(SetupError, match="hospital-a: is enrolled already"):
        with_site(SITES, "hospital-a", Role.SOURCE, new_keys())


@pytest.mark.parametrize(
    "keys",
    [KEYS_A, SiteKeys(KEYS_A.node, KEYS_A.reply), new_keys()._replace(node=KEYS_A.reply)],
    ids=["both", "swapped", "one for another use"],
)
def test_another_sites_key_is_refused(keys: SiteKeys) -> None:
    with pytest.raises(SetupError, match="has a key of hospital-a"):
        with_site(SITES, "hospital-c", Role.SOURCE, keys)
    with pytest.raises(SetupError, match="has a key of hospital-a"):
        with_keys(SITES, "hospital-b", Role.HELD_OUT, keys)


def test_a_second_held_out_site_is_refused() -> None:
    with pytest.raises(SetupError, match="hospital-b: is the held-out hospital already"):
        with_site(SITES, "hospital-c", Role.HELD_OUT, new_keys())


@pytest.mark.parametrize("name", ["", "Hospital", "a b", "../a", "-a", "a" * 64, "root@host", "a\n"])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(SetupError, match="is not a site's name"):
        with_site(SITES, name, Role.SOURCE, new_keys())


def test_rotated_keys_touch_no_other_site() -> None:
    keys = new_keys()
    rotated = with_keys(SITES, "hospital-a", Role.SOURCE, keys)

    assert rotated["hospital-a"].keys == keys
    assert rotated["hospital-b"] == SITES["hospital-b"]


def test_new_keys_do_not_change_a_role() -> None:
    with pytest.raises(SetupError, match="enrolled as held-out, not as source"):
        with_keys(SITES, "hospital-b", Role.SOURCE, new_keys())


def test_the_keys_that_a_site_has_change_nothing() -> None:
    assert with_keys(SITES, "hospital-a", Role.SOURCE, KEYS_A) == SITES


def test_a_removed_site_is_gone_and_no_other() -> None:
    assert without_site(SITES, "hospital-a") == {"hospital-b": SITES["hospital-b"]}


def test_a_site_that_is_not_enrolled_is_named_with_those_that_are() -> None:
    with pytest.raises(SetupError, match="hospital-c: is not enrolled; hospital-a, hospital-b is"):
        without_site(SITES, "hospital-c")
    with pytest.raises(SetupError, match="hospital-c: is not enrolled; no site is"):
        with_keys({}, "hospital-c", Role.SOURCE, KEYS_A)
