"""What hospitals tell each other through the coordinator: sealed for the hospitals, and sums masked even from them.

Every hospital makes an X25519 key for one scoring and tells its public half. A message is sealed under a key of its own
(ChaCha20-Poly1305), which goes with it, wrapped for each hospital, so the coordinator carries what it can neither read
nor alter. In a sum each source adds to its part, for every other source, a mask that the two have agreed on, the one
with plus and the other with minus: only the sum over all of them is a number (Bonawitz et al. 2017, "Practical Secure
Aggregation for Privacy-Preserving Machine Learning", CCS, without the recovery of drop-outs: where one is missing there
is no sum). Numbers are whole multiples of 2⁻⁶⁴ modulo 2¹²⁸, so that the masks cancel to the last bit.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import safetensors
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray
from safetensors.numpy import load, save

from roiae.errors import Reason, RefusalError
from roiae.shift.outcome import Matrix
from roiae.wire.contract import Arrays

Sealed = NDArray[np.uint8]
KEY_BYTES = 32
MIN_SOURCES = 2
_NUMBER_BYTES = 16
_UNIT = 2.0**64
_MODULUS = 1 << 8 * _NUMBER_BYTES
_LARGEST = 2.0**55  # of one site's part: 128 of them do not overflow
_NONCE = 12
_TAG = 16
_WRAPPED = _NONCE + KEY_BYTES + _TAG


@dataclass(frozen=True)
class Group:
    """One hospital's place among those that score a checkpoint.

    Args:
        name: this hospital.
        private: its own key for this scoring.
        sources: whose sums are added, sorted.
        keys: the public keys of all hospitals, the held-out one among them.
        about: what the scoring is about; a message from another does not open.

    Raises:
        RefusalError: `bad-request`: fewer than two sources, a source without a key, or another key in our name.
    """

    name: str
    private: X25519PrivateKey
    sources: tuple[str, ...]
    keys: Mapping[str, bytes]
    about: str

    def __post_init__(self) -> None:
        if list(self.sources) != sorted(set(self.sources)) or len(self.sources) < MIN_SOURCES:
            raise _refusal(f"a sum needs {MIN_SOURCES} sources or more, sorted")
        if strangers := len(set(self.sources) - set(self.keys)):
            raise _refusal(f"{strangers} sources have no key")
        if len(set(self.keys.values())) < len(self.keys):
            raise _refusal("two hospitals have the same key")
        if self.keys.get(self.name) != self.private.public_key().public_bytes_raw():
            raise _refusal("the key in this site's name is not its own")

    def seal(self, topic: str, arrays: Arrays) -> Sealed:
        """A message that every hospital of the group can open; `topic` says what it answers."""
        key = secrets.token_bytes(KEY_BYTES)
        blob = b""
        for member in sorted(self.keys):
            nonce = secrets.token_bytes(_NONCE)
            shared = ChaCha20Poly1305(self._agreed(member, "seal"))
            blob += nonce + shared.encrypt(nonce, key, self._label(topic, self.name))
        # A key seals one message, so that its nonce may be constant.
        blob += ChaCha20Poly1305(key).encrypt(bytes(_NONCE), packed(arrays), self._label(topic, self.name))
        return np.frombuffer(blob, dtype=np.uint8)

    def open(self, topic: str, sender: str, sealed: Sealed) -> Arrays:
        """What `sender` has sealed.

        Raises:
            RefusalError: `bad-request`: it is not from that hospital, not for this group, or not as it was sealed.
        """
        blob, place = sealed.tobytes(), sorted(self.keys).index(self.name) * _WRAPPED
        wrapped, message = blob[place : place + _WRAPPED], blob[_WRAPPED * len(self.keys) :]
        label = self._label(topic, sender)
        try:
            key = ChaCha20Poly1305(self._agreed(sender, "seal")).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], label)
            return load(ChaCha20Poly1305(key).decrypt(bytes(_NONCE), message, label))
        except (InvalidTag, ValueError, KeyError, safetensors.SafetensorError):
            raise _refusal("a sealed message does not open: it is not from this group, or it was altered") from None

    def mask(self, topic: str, part: Matrix) -> Sealed:
        """This source's part of a sum, [..., 16] bytes, random to whoever lacks the part of any other source.

        Raises:
            RefusalError: `not-finite`: a number is not finite or too large.
        """
        if not (np.abs(part) < _LARGEST).all():
            raise RefusalError(Reason.NOT_FINITE, "a number is not finite, or too large to be added in secret")
        numbers = [int(number * _UNIT) for number in part.ravel().tolist()]
        for other in self.sources:
            if other != self.name:
                sign = 1 if self.name < other else -1
                stream = _stream(self._agreed(other, f"mask/{topic}"), len(numbers))
                numbers = [number + sign * added for number, added in zip(numbers, stream, strict=True)]
        masked = b"".join((number % _MODULUS).to_bytes(_NUMBER_BYTES, "little") for number in numbers)
        return np.frombuffer(masked, dtype=np.uint8).reshape(*part.shape, _NUMBER_BYTES)

    def total(self, parts: Mapping[str, Sealed]) -> Matrix:
        """The sum of all the sources' parts, for which each must be there.

        Raises:
            RefusalError: `bad-request`: the parts are not those of all sources, or not of one shape.
        """
        shapes = {part.shape for part in parts.values()}
        if tuple(sorted(parts)) != self.sources or len(shapes) != 1:
            raise _refusal("a sum needs the parts of all its sources")
        (shape,) = shapes
        total = [0] * int(np.prod(shape[:-1]))
        for part in parts.values():
            total = [before + number for before, number in zip(total, _numbers(part.tobytes()), strict=True)]
        half = _MODULUS // 2
        signed = [((number + half) % _MODULUS - half) / int(_UNIT) for number in total]
        return np.array(signed, dtype=np.float64).reshape(shape[:-1])

    @cached_property
    def _context(self) -> bytes:
        keys = {name: key.hex() for name, key in sorted(self.keys.items())}
        return hashlib.sha256(json.dumps([self.about, self.sources, keys]).encode()).digest()

    def _agreed(self, other: str, purpose: str) -> bytes:
        """A key that this hospital and the other alone can make."""
        if other not in self.keys:
            raise _refusal("a message of a hospital without a key")
        try:
            secret = self.private.exchange(X25519PublicKey.from_public_bytes(self.keys[other]))
        except ValueError:
            raise _refusal("a public key is none") from None
        return HKDF(SHA256(), KEY_BYTES, salt=self._context, info=f"roiae shift/{purpose}".encode()).derive(secret)

    def _label(self, topic: str, sender: str) -> bytes:
        return self._context + json.dumps([topic, sender]).encode()


def packed(arrays: Arrays) -> bytes:
    """As safetensors, which writes an array that does not lie in C order wrongly."""
    return save({name: np.array(array, order="C") for name, array in arrays.items()})


def sealed_bytes(members: int, message: int) -> int:
    """How long a sealed message of so many bytes is, for a group of so many hospitals."""
    return members * _WRAPPED + message + _TAG


def _stream(key: bytes, numbers: int) -> list[int]:
    cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None)
    return _numbers(cipher.encryptor().update(bytes(_NUMBER_BYTES * numbers)))


def _numbers(stream: bytes) -> list[int]:
    places = range(0, len(stream), _NUMBER_BYTES)
    return [int.from_bytes(stream[place : place + _NUMBER_BYTES], "little") for place in places]


def _refusal(message: str) -> RefusalError:
    return RefusalError(Reason.BAD_REQUEST, message)
