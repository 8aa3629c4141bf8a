"""Whose call it is, by Flower's own signature."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from roiae.config import Role
from roiae.files import write_atomically
from roiae_server.enrolment.coordinator_folder import SITES
from roiae_server.gateway.roll import Roll
from tests.server.gateway.node_calls import NodeAuth, federation, new_key, site_keys

Headers = list[tuple[bytes, bytes]]


def headers(auth: NodeAuth) -> Headers:
    (request,) = list(auth.auth_flow(httpx.Request("POST", "https://gateway/")))
    return [(name.lower(), value) for name, value in request.headers.raw]


def signed(key: ec.EllipticCurvePrivateKey, stamp: str) -> Headers:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = key.sign(stamp.encode(), ec.ECDSA(hashes.SHA256()))
    return [
        (b"flwr-public-key", b64encode(pem)),
        (b"flwr-timestamp", stamp.encode()),
        (b"flwr-signature", b64encode(signature)),
    ]


def test_a_caller_is_who_signed(tmp_path: Path) -> None:
    folder, sign = federation(tmp_path / "c", "alpha", "beta")
    roll = Roll(folder)

    names = [caller.name if (caller := roll.caller(headers(sign[name]))) else None for name in ("alpha", "beta")]
    assert names == ["alpha", "beta"]
    assert roll.caller(headers(NodeAuth(new_key()))) is None
    assert roll.caller([]) is None


@pytest.mark.parametrize(
    ("seconds", "known"), [(0, True), (4, True), (6, False), (-299, True), (-306, False), (-1e9, False)]
)
def test_a_signature_is_good_for_as_long_as_flower_takes_it(tmp_path: Path, seconds: float, known: bool) -> None:
    folder, _ = federation(tmp_path / "c")
    key = new_key()
    folder.add_site("alpha", Role.SOURCE, site_keys(key))
    stamp = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()

    assert (Roll(folder).caller(signed(key, stamp)) is not None) == known


@pytest.mark.parametrize("stamp", ["", "yesterday", "2026-01-01T00:00:00", "9999-12-31T23:59:59-23:59", "0001-01-01"])
def test_a_time_that_is_none_is_nobodys(tmp_path: Path, stamp: str) -> None:
    folder, _ = federation(tmp_path / "c")
    key = new_key()
    folder.add_site("alpha", Role.SOURCE, site_keys(key))

    assert Roll(folder).caller(signed(key, stamp)) is None


def test_a_time_with_ten_thousand_decimals_is_nobodys(tmp_path: Path) -> None:
    """Python reads it; used ones are remembered, and an enrolled hospital could fill the memory with them."""
    folder, _ = federation(tmp_path / "c")
    key = new_key()
    folder.add_site("alpha", Role.SOURCE, site_keys(key))
    now = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")

    known = [Roll(folder).caller(signed(key, f"{now}{'0' * more}+00:00")) is not None for more in (0, 10_000)]
    assert known == [True, False]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"not base64!", b64encode(b"no key"), b"A" * 8000])
def test_a_header_that_is_none_is_nobodys(tmp_path: Path, place: int, value: bytes) -> None:
    folder, sign = federation(tmp_path / "c", "alpha")
    said = [pair for pair in headers(sign["alpha"]) if pair[0].startswith(b"flwr-")]
    said[place] = (said[place][0], value)

    assert Roll(folder).caller(said) is None


def test_the_signature_of_one_is_no_other_ones(tmp_path: Path) -> None:
    folder, sign = federation(tmp_path / "c", "alpha", "beta")
    alpha, beta = (dict(headers(sign[name])) for name in ("alpha", "beta"))
    mixed = list({**alpha, b"flwr-public-key": beta[b"flwr-public-key"]}.items())

    assert Roll(folder).caller(mixed) is None


def test_each_signature_is_taken_once(tmp_path: Path) -> None:
    folder, sign = federation(tmp_path / "c", "alpha")
    roll, said = Roll(folder), headers(sign["alpha"])
    caller = roll.caller(said)
    assert caller

    assert [roll.first_use(caller, said) for _ in range(3)] == [True, False, False]
    assert roll.first_use(caller, headers(sign["alpha"]))


def test_a_header_that_comes_twice_makes_no_second_use(tmp_path: Path) -> None:
    folder, sign = federation(tmp_path / "c", "alpha")
    roll, said = Roll(folder), headers(sign["alpha"])
    doubled = [*said, (b"flwr-timestamp", datetime.now(UTC).isoformat().encode())]
    caller = roll.caller(doubled)
    assert caller

    assert [roll.first_use(caller, given) for given in (said, doubled)] == [True, False]


def test_who_is_enrolled_is_as_the_list_is_now(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, sign = federation(tmp_path / "c", "alpha", "beta")
    roll, new = Roll(folder), new_key()
    old = roll.caller(headers(sign["alpha"]))
    assert old and old in roll

    folder.replace_keys("alpha", Role.SOURCE, site_keys(new))
    folder.remove_site("beta")
    assert roll.caller(headers(sign["alpha"])) is None
    assert roll.caller(headers(NodeAuth(new)))
    assert roll.caller(headers(sign["beta"])) is None
    assert old not in roll

    write_atomically(folder.path / SITES, b"{")
    assert roll.caller(headers(NodeAuth(new)))
    assert caplog.text.count("cannot be read") == 1
