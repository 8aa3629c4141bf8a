import io
import json
import stat
import warnings
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from roiae.config import Role
from roiae.errors import SetupError
from roiae.identity.certificates import ca_fingerprint
from roiae.identity.keys import sign
from roiae.identity.kit import PROTOCOL, Kit, pack_kit, read_kit
from roiae.wire.signed_request import RequestSigner
from roiae_server.enrolment.authority import CA_LIFETIME, Authority
from tests.signing import CA, new_signer

AUTHORITY = Authority.create("nt-europe")
FINGERPRINT = ca_fingerprint(AUTHORITY.pem)
KIT = Kit(
    protocol=PROTOCOL,
    roiae="1.0",
    federation="nt-europe",
    host="fl.example.org",
    port=8443,
    site="hospital-a",
    role=Role.SOURCE,
    site_fingerprint="SHA256:abc",
    request_key=new_signer(1, AUTHORITY.key).certificate,
)
PACKED = pack_kit(KIT, AUTHORITY.pem, AUTHORITY.key)


def members() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(PACKED)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    def write(content: dict[str, bytes]) -> Path:
        with zipfile.ZipFile(tmp_path / "kit.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, member in content.items():
                archive.writestr(name, member)
        return tmp_path / "kit.zip"

    return write


def resigned(changes: dict[str, object], drop: str = "") -> dict[str, bytes]:
    """The kit with other fields, signed anew by its CA."""
    fields = {**json.loads(members()["kit.json"]), **changes}
    fields.pop(drop, None)
    content = json.dumps(fields).encode()
    return {**members(), "kit.json": content, "kit.sig": sign(AUTHORITY.key, b"roiae kit\n" + content)}


def test_a_kit_comes_back_as_it_was_packed(tmp_path: Path) -> None:
    (tmp_path / "kit.zip").write_bytes(PACKED)

    assert read_kit(tmp_path / "kit.zip").unseal(FINGERPRINT.lower()) == KIT


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "does not hold exactly"),
        ({**members(), "run.py": b"print('hello')"}, "does not hold exactly"),
        ({**members(), "../ca.crt": b"x"}, "does not hold exactly"),
        (
            {**{k: v for k, v in members().items() if k != "ca.crt"}, "/ca.crt": members()["ca.crt"]},
            "does not hold exactly",
        ),
        ({**members(), "ca.crt": b"\x00" * 10_000_000}, r"ca\.crt is too large"),
    ],
    ids=["empty", "code", "parent", "absolute", "bomb"],
)
def test_anything_but_the_three_small_files_is_refused(
    zipped: Callable[[dict[str, bytes]], Path], changed: dict[str, bytes], message: str
) -> None:
    with pytest.raises(SetupError, match=message):
        read_kit(zipped(changed))


def test_a_member_given_twice_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "kit.zip", "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # zipfile's own, about the duplicate
        for name, member in [*members().items(), ("kit.json", b"{}")]:
            archive.writestr(name, member)

    with pytest.raises(SetupError, match="does not hold exactly"):
        read_kit(tmp_path / "kit.zip")


def test_a_link_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "kit.zip", "w") as archive:
        for name, member in members().items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK if name == "ca.crt" else stat.S_IFREG) << 16
            archive.writestr(entry, member)

    with pytest.raises(SetupError, match=r"ca\.crt is a link"):
        read_kit(tmp_path / "kit.zip")


def test_a_large_file_is_not_read_on(tmp_path: Path) -> None:
    with (tmp_path / "kit.zip").open("wb") as file:
        file.truncate(10_000_000_000)

    with pytest.raises(SetupError, match="too large for a kit"):
        read_kit(tmp_path / "kit.zip")


@pytest.mark.parametrize("content", [b"", b"nonsense", PACKED[:300]], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kit.zip").write_bytes(content)

    with pytest.raises(SetupError, match="is damaged, or not a kit"):
        read_kit(tmp_path / "kit.zip")


def test_a_missing_kit_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        read_kit(tmp_path / "kit.zip")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(PACKED) - 1), byte=st.integers(0, 255))
def test_a_kit_altered_anywhere_is_refused_or_says_the_same(tmp_path: Path, at: int, byte: int) -> None:
    (tmp_path / "kit.zip").write_bytes(PACKED[:at] + bytes([byte]) + PACKED[at + 1 :])

    try:
        assert read_kit(tmp_path / "kit.zip").unseal(FINGERPRINT) == KIT
    except SetupError as refused:
        assert "kit.zip" in str(refused)


def test_a_kit_of_another_ca_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kit.zip").write_bytes(PACKED)

    with pytest.raises(SetupError, match="do not use it") as refused:
        read_kit(tmp_path / "kit.zip").unseal(ca_fingerprint(Authority.create("nt-europe").pem))
    assert FINGERPRINT in str(refused.value)


def test_part_of_a_fingerprint_is_not_enough(tmp_path: Path) -> None:
    (tmp_path / "kit.zip").write_bytes(PACKED)

    with pytest.raises(SetupError, match="all 64 digits"):
        read_kit(tmp_path / "kit.zip").unseal(FINGERPRINT[:19])


def test_a_kit_that_the_ca_did_not_sign_is_refused(zipped: Callable[[dict[str, bytes]], Path]) -> None:
    changed = {**members(), "kit.json": members()["kit.json"].replace(b"fl.example.org", b"fl.example.com")}

    with pytest.raises(SetupError, match="not what the coordinator's CA signed"):
        read_kit(zipped(changed)).unseal(FINGERPRINT)


def test_a_signature_for_something_else_is_no_kits(zipped: Callable[[dict[str, bytes]], Path]) -> None:
    changed = {**members(), "kit.sig": sign(AUTHORITY.key, members()["kit.json"])}

    with pytest.raises(SetupError, match="not what the coordinator's CA signed"):
        read_kit(zipped(changed)).unseal(FINGERPRINT)


def test_an_expired_ca_is_refused(tmp_path: Path) -> None:
    old = Authority.create("nt-europe", now=datetime.now(UTC) - CA_LIFETIME - timedelta(days=1))
    (tmp_path / "kit.zip").write_bytes(pack_kit(KIT, old.pem, old.key))

    with pytest.raises(SetupError, match="its CA expired on"):
        read_kit(tmp_path / "kit.zip").unseal(ca_fingerprint(old.pem))


def test_another_protocol_is_named_with_both_versions(zipped: Callable[[dict[str, bytes]], Path]) -> None:
    with pytest.raises(SetupError, match=rf"protocol 9, made by roiae '9\.9'; this roiae reads protocol {PROTOCOL}"):
        read_kit(zipped(resigned({"protocol": 9, "roiae": "9.9", "news": True}))).unseal(FINGERPRINT)


@pytest.mark.parametrize(
    ("changes", "drop", "key"),
    [
        ({"host": "https://fl.example.org"}, "", "host"),
        ({"port": "8443"}, "", "port"),
        ({"role": "observer"}, "", "role"),
        ({"site": "../hospital"}, "", "site"),
        ({"run": "code"}, "", "run"),
        ({}, "site_fingerprint", "site_fingerprint"),
    ],
)
def test_a_kit_that_does_not_fit_its_protocol_is_refused(
    zipped: Callable[[dict[str, bytes]], Path], changes: dict[str, object], drop: str, key: str
) -> None:
    with pytest.raises(SetupError, match=rf"kit\.json is not right at {key}\."):
        read_kit(zipped(resigned(changes, drop))).unseal(FINGERPRINT)


def test_a_kit_without_a_request_key_is_told(zipped: Callable[[dict[str, bytes]], Path]) -> None:
    with pytest.raises(SetupError, match=r"names no request key.*`roiae-server add-site … --replace` makes one"):
        read_kit(zipped(resigned({}, "request_key"))).unseal(FINGERPRINT)


@pytest.mark.parametrize(
    "signer", [new_signer(1, CA), new_signer(1, AUTHORITY.key, "nt-asia")], ids=["another CA", "another federation"]
)
def test_a_kit_with_a_wrong_request_key_is_told(
    zipped: Callable[[dict[str, bytes]], Path], signer: RequestSigner
) -> None:
    changed = resigned({"request_key": signer.certificate.model_dump()})

    with pytest.raises(SetupError, match="its request key is not certified by this federation's CA"):
        read_kit(zipped(changed)).unseal(FINGERPRINT)


@pytest.mark.parametrize(
    ("host", "address"),
    [("FL.example.org", "fl.example.org:8443"), ("192.0.2.7", "192.0.2.7:8443"), ("2001:db8::7", "[2001:db8::7]:8443")],
)
def test_an_address_is_written_as_a_url_takes_it(host: str, address: str) -> None:
    assert Kit.model_validate({**KIT.model_dump(), "host": host}).address == address


@pytest.mark.parametrize(
    "host", ["", "fl.example.org:8443", "https://fl", "a b", "-a.org", "a..org", "300.1.1.1", "fl/x"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="without https://"):
        Kit.model_validate({**KIT.model_dump(), "host": host})


@pytest.mark.parametrize("field", ["roiae", "protocol", "\x1b[2J\n"])
def test_what_an_unbelieved_kit_says_is_shown_escaped_and_cut(
    zipped: Callable[[dict[str, bytes]], Path], field: str
) -> None:
    fields = {"protocol": 99, field: "\x1b[2J\nwritten to coordinator" * 400}

    with pytest.raises(SetupError) as error:
        read_kit(zipped(resigned(fields))).unseal(FINGERPRINT)

    assert str(error.value).isprintable() and len(str(error.value)) < 500
