"""Keys of sites and of the federation: EC P-384, in OpenSSH's format because Flower's node authentication reads that.

Each key has one use. A site has two: one signs its replies, the other its part of Flower's node authentication. The
private ones never leave the machine that made them. What a hospital sends to its coordinator is two lines of text, and
what the two read to each other over the telephone is one fingerprint of both.
"""

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from roiae.errors import SetupError
from roiae.files import create_private

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

_ALGORITHM = "ecdsa-sha2-nistp384"
_LARGEST = 16_384  # bytes; a P-384 key has some 300
_OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"


class SiteKeys(NamedTuple):
    """The public keys of a site."""

    reply: PublicKey  # signs what the site answers
    node: PublicKey  # of Flower's node authentication, and of nothing else

    @property
    def fingerprint(self) -> str:
        """`SHA256:…` of both lines without their comments: `cut -d' ' -f1,2 NAME.pub` and a SHA-256 of that."""
        lines = "".join(f"{public_line(key, '')}\n" for key in self)
        return _sha256(lines.encode())

    def lines(self, name: str) -> str:
        """What a .pub file holds: two OpenSSH lines with the site's name behind each."""
        return "".join(f"{public_line(key, name)}\n" for key in self)


def create_key(path: Path) -> PrivateKey:
    """Make a private key in a new file that only its owner can read.

    Raises:
        SetupError: there is a file of that name, or it cannot be written.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    content = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    try:
        create_private(path, content)
    except FileExistsError:
        raise SetupError(f"{path}: exists; a key is never written over. Name another file or move this one.") from None
    except OSError as error:
        raise SetupError(
            f"{path}: cannot be written ({error.strerror}). Give a folder that you may write to."
        ) from error
    return key


def load_private(path: Path) -> PrivateKey:
    """The private key in a file.

    Raises:
        SetupError: the file is missing, can be read by others, or does not hold an EC P-384 key in OpenSSH's format
            without a passphrase.
    """
    text = _read(path)
    if text.split(" ")[0].startswith(("ecdsa-", "ssh-", "sk-")):
        raise SetupError(
            f"{path}: holds a public key; the private key was expected here. Restore it, or make a new one."
        )
    require_private_mode(path)
    if not text.startswith(_OPENSSH):
        raise SetupError(f"{path}: is not a private key in OpenSSH's format. {_MAKE_ONE}")
    try:
        key = load_ssh_private_key(text.encode(), password=None)
    except TypeError:
        raise SetupError(
            f"{path}: is protected by a passphrase, which a service cannot type. "
            "Keep the file's mode at 0600 instead, or make a new key with `roiae-client rotate`."
        ) from None
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise SetupError(f"{path}: is damaged. Restore it from a backup, or make a new one.") from None
    if not isinstance(key, PrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise SetupError(f"{path}: is not an EC P-384 key. {_MAKE_ONE}")
    return key


def require_private_mode(path: Path) -> None:
    """
    Raises:
        SetupError: the file is missing, or somebody besides its owner may read or write it.
    """
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise SetupError(f"{path}: cannot be opened ({error.strerror}). Restore it from a backup.") from error
    if mode & 0o077:
        raise SetupError(
            f"{path}: others than its owner can open it (mode {mode:04o}; 0600 was expected). Type `chmod 600 {path}`; "
            "if somebody may have read it, make a new key as well."
        )


def parse_public(text: str, where: Path | str) -> PublicKey:
    """The public key of an OpenSSH line.

    Args:
        where: what a message calls the text, for example its file.

    Raises:
        SetupError: it is a private key, another kind of key, or no key.
    """
    _refuse_private(text, where)
    words = text.split()
    algorithm = words[0] if words else "nothing"
    if algorithm.startswith(("ssh-", "ecdsa-", "sk-")) and algorithm != _ALGORITHM:
        raise SetupError(f"{where}: is a key of type {algorithm}; {_ALGORITHM} was expected. {_MAKE_ONE}")
    if algorithm != _ALGORITHM or len(text.strip().splitlines()) != 1:
        raise SetupError(
            f"{where}: is not a public key: a line `{_ALGORITHM} AAAA… name` was expected. "
            "Ask the hospital for the .pub file that `roiae-client init` wrote."
        )
    try:
        key = load_ssh_public_key(text.strip().encode())
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):
        raise SetupError(
            f"{where}: is a damaged public key. Ask the hospital to send its .pub file again, as a file."
        ) from None
    if not isinstance(key, PublicKey):
        raise SetupError(f"{where}: is not an EC P-384 key. {_MAKE_ONE}")
    return key


def read_public(path: Path) -> tuple[SiteKeys, str]:
    """The public keys in a .pub file and the comment behind the first, which is the name of their site.

    Raises:
        SetupError: as `parse_public`, the file cannot be read, or it does not hold two different keys.
    """
    text = _read(path)
    _refuse_private(text, path)
    lines = [line for line in text.splitlines() if line.strip()]
    keys = [parse_public(line, path) for line in lines[:2]]
    if len(keys) != 2 or len(lines) != 2:
        raise SetupError(
            f"{path}: holds {len(lines)} line(s); two were expected, the key that signs replies and the key of "
            "Flower's node authentication. Ask the hospital for the whole .pub file that `roiae-client init` wrote."
        )
    if keys[0] == keys[1]:
        raise SetupError(
            f"{path}: holds the same key twice; each key has one use. Ask the hospital for the .pub file that "
            "`roiae-client init` wrote."
        )
    return SiteKeys(*keys), " ".join(lines[0].split()[2:])


def public_line(key: PublicKey, comment: str) -> str:
    """The public key as one OpenSSH line, without a line end."""
    return f"{key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}".rstrip()


def fingerprint(key: PublicKey) -> str:
    """`SHA256:…` of one key, as `ssh-keygen -lf` prints it."""
    return _sha256(base64.b64decode(public_line(key, "").split()[1]))


def sign(key: PrivateKey, message: bytes) -> bytes:
    """ECDSA over SHA-384, DER-encoded."""
    return key.sign(message, ec.ECDSA(hashes.SHA384()))


def verify(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether this key signed the message."""
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True


_MAKE_ONE = "`roiae-client init` makes the right kind."


def _sha256(content: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def _refuse_private(text: str, where: Path | str) -> None:
    if "PRIVATE KEY" in text:
        raise SetupError(
            f"{where}: is a private key, and it has now been shown: whoever has it can pass for the hospital. "
            "Delete this copy everywhere it went, have the hospital make new keys (`roiae-client rotate`), and ask "
            "for the file that ends in .pub."
        )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({error.strerror}). {_MAKE_ONE}") from error
    if len(content) > _LARGEST or not content.isascii():
        raise SetupError(f"{path}: is not a key. {_MAKE_ONE}")
    return content.decode()
