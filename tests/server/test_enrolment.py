import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from roiae.config import Role
from roiae.errors import SetupError
from roiae.keys import PublicKey
from roiae_server.enrolment import with_key, with_site, without_site


def new_key() -> PublicKey:
    return ec.generate_private_key(ec.SECP384R1()).public_key()


KEY_A, KEY_B = new_key(), new_key()
SITES = with_site(with_site({}, "hospital-a", Role.SOURCE, KEY_A), "hospital-b", Role.HELD_OUT, KEY_B)


def test_an_enrolled_site_has_its_role_and_key() -> None:
    assert (SITES["hospital-b"].role, SITES["hospital-b"].key) == (Role.HELD_OUT, KEY_B)
    assert SITES["hospital-b"].public_key.endswith(" hospital-b")


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(SetupError, match="hospital-a: is enrolled already"):
        with_site(SITES, "hospital-a", Role.SOURCE, new_key())


def test_another_sites_key_is_refused() -> None:
    with pytest.raises(SetupError, match="has the key of hospital-a"):
        with_site(SITES, "hospital-c", Role.SOURCE, KEY_A)
    with pytest.raises(SetupError, match="has the key of hospital-a"):
        with_key(SITES, "hospital-b", Role.HELD_OUT, KEY_A)


def test_a_second_held_out_site_is_refused() -> None:
    with pytest.raises(SetupError, match="hospital-b: is the held-out hospital already"):
        with_site(SITES, "hospital-c", Role.HELD_OUT, new_key())


@pytest.mark.parametrize("name", ["", "Hospital", "a b", "../a", "-a", "a" * 64, "root@host", "a\n"])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(SetupError, match="is not a site's name"):
        with_site(SITES, name, Role.SOURCE, new_key())


def test_a_rotated_key_touches_no_other_site() -> None:
    key = new_key()
    rotated = with_key(SITES, "hospital-a", Role.SOURCE, key)

    assert rotated["hospital-a"].key == key
    assert rotated["hospital-b"] == SITES["hospital-b"]


def test_a_new_key_does_not_change_a_role() -> None:
    with pytest.raises(SetupError, match="enrolled as held-out, not as source"):
        with_key(SITES, "hospital-b", Role.SOURCE, new_key())


def test_the_key_that_a_site_has_changes_nothing() -> None:
    assert with_key(SITES, "hospital-a", Role.SOURCE, KEY_A) == SITES


def test_a_removed_site_is_gone_and_no_other() -> None:
    assert without_site(SITES, "hospital-a") == {"hospital-b": SITES["hospital-b"]}


def test_a_site_that_is_not_enrolled_is_named_with_those_that_are() -> None:
    with pytest.raises(SetupError, match="hospital-c: is not enrolled; hospital-a, hospital-b is"):
        without_site(SITES, "hospital-c")
    with pytest.raises(SetupError, match="hospital-c: is not enrolled; no site is"):
        with_key({}, "hospital-c", Role.SOURCE, KEY_A)
