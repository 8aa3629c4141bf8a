import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from roiae.errors import SetupError
from roiae.identity.keys import (
    SiteKeys,
    create_key,
    fingerprint,
    load_private,
    parse_public,
    public_line,
    read_public,
    sign,
    verify,
)
from tests.signing import new_keys

needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")


def written(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_new_key_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    key = create_key(tmp_path / "key")

    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert load_private(tmp_path / "key").private_numbers() == key.private_numbers()


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()

    with pytest.raises(SetupError, match="never written over"):
        create_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


@needs_ssh_keygen
def test_the_fingerprint_is_what_ssh_keygen_prints(tmp_path: Path) -> None:
    key = create_key(tmp_path / "key").public_key()
    (tmp_path / "site.pub").write_text(public_line(key, "hospital-a"))

    for file in ("key", "site.pub"):
        printed = subprocess.run(["ssh-keygen", "-lf", tmp_path / file], capture_output=True, text=True, check=True)
        assert printed.stdout.split()[:2] == ["384", fingerprint(key)]


@needs_ssh_keygen
def test_a_key_made_by_ssh_keygen_is_taken(tmp_path: Path) -> None:
    flags = ["-q", "-t", "ecdsa", "-b", "384", "-N", "", "-C", "hospital-a", "-f", str(tmp_path / "key")]
    subprocess.run(["ssh-keygen", *flags], check=True)

    public = parse_public((tmp_path / "key.pub").read_text(), "key.pub")

    assert public == load_private(tmp_path / "key").public_key()


def test_a_signature_holds_for_its_key_and_message_alone() -> None:
    key, other = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    signature = sign(key, b"message")

    key.public_key().verify(signature, b"message", ec.ECDSA(SHA384()))  # as anybody else would check it
    assert verify(key.public_key(), signature, b"message")
    assert not verify(key.public_key(), signature, b"messagf")
    assert not verify(other.public_key(), signature, b"message")
    assert not verify(key.public_key(), b"", b"message")


def test_a_missing_key_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        load_private(tmp_path / "key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    create_key(tmp_path / "key")
    (tmp_path / "key").chmod(mode)

    with pytest.raises(SetupError, match=f"chmod 600 {tmp_path / 'key'}"):
        load_private(tmp_path / "key")


def test_a_public_key_given_as_a_private_one_is_named(tmp_path: Path) -> None:
    line = public_line(create_key(tmp_path / "key").public_key(), "hospital-a")

    with pytest.raises(SetupError, match="holds a public key"):
        load_private(written(tmp_path / "wrong", line.encode(), 0o644))


def openssh(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)


P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (openssh(P256), "not an EC P-384 key"),
        (openssh(ed25519.Ed25519PrivateKey.generate()), "not an EC P-384 key"),
        (openssh(P384)[:200], "is damaged"),
        (
            P384.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "not a private key in OpenSSH's format",
        ),
        (b"", "not a private key in OpenSSH's format"),
        (b"\xff\x00" * 20, "is not a key"),
        (b"a" * 100_000, "is not a key"),
    ],
    ids=["p256", "ed25519", "cut", "pkcs8", "empty", "binary", "large"],
)
def test_another_private_key_or_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        load_private(written(tmp_path / "key", content))


@needs_ssh_keygen
def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    flags = ["-q", "-t", "ecdsa", "-b", "384", "-N", "a passphrase", "-f", str(tmp_path / "key")]
    subprocess.run(["ssh-keygen", *flags], check=True)

    with pytest.raises(SetupError, match="passphrase"):
        load_private(tmp_path / "key")


def test_a_private_key_given_as_a_public_one_has_been_shown() -> None:
    with pytest.raises(SetupError, match="has now been shown") as refused:
        parse_public(openssh(P384).decode(), "mail.txt")
    assert "roiae-client rotate" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (public_line(P256.public_key(), "x"), "of type ecdsa-sha2-nistp256"),
        ("ssh-rsa AAAA x", "of type ssh-rsa"),
        (public_line(P384.public_key(), "x")[:80], "damaged"),
        ("ecdsa-sha2-nistp384", "damaged"),
        (f"{public_line(P384.public_key(), 'x')}\n{public_line(P384.public_key(), 'y')}", "not a public key"),
        ("Dear coordinator,\nplease find", "not a public key"),
        ("", "not a public key"),
    ],
    ids=["p256", "rsa", "cut", "bare", "two", "letter", "empty"],
)
def test_another_public_key_or_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        parse_public(text, "hospital-a.pub")


def test_a_sites_keys_come_back_with_its_name(tmp_path: Path) -> None:
    keys = new_keys()
    path = written(tmp_path / "a.pub", keys.lines("hospital-a").replace("\n", "\r\n").encode())

    assert read_public(path) == (keys, "hospital-a")
    assert all(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) in path.read_bytes() for key in keys)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((0,), r"holds 1 line\(s\); two were expected"),
        ((0, 1, 0), r"holds 3 line\(s\); two were expected"),
        ((0, 0), "the same key twice"),
        ((), r"holds 0 line\(s\)"),
    ],
)
def test_a_file_that_does_not_hold_two_keys_is_refused(tmp_path: Path, lines: tuple[int, ...], message: str) -> None:
    text = new_keys().lines("hospital-a").splitlines(keepends=True)
    path = written(tmp_path / "a.pub", "".join(text[line] for line in lines).encode())

    with pytest.raises(SetupError, match=message):
        read_public(path)


@pytest.mark.parametrize("name", ["reply.key", "node.key"])
def test_a_private_key_among_the_public_ones_has_been_shown(tmp_path: Path, name: str) -> None:
    create_key(tmp_path / name)
    path = written(tmp_path / "a.pub", new_keys().lines("a").encode() + (tmp_path / name).read_bytes())

    for sent in (tmp_path / name, path):
        with pytest.raises(SetupError, match="has now been shown"):
            read_public(sent)


def test_one_fingerprint_of_both_keys_can_be_worked_out_with_common_tools(tmp_path: Path) -> None:
    keys = new_keys()
    path = written(tmp_path / "a.pub", keys.lines("hospital-a").encode())
    command = f"cut -d' ' -f1,2 {path} | openssl dgst -sha256 -binary | base64"

    printed = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout.strip()
    assert keys.fingerprint == "SHA256:" + printed.rstrip("=")
    assert SiteKeys(keys.node, keys.reply).fingerprint != keys.fingerprint
