"""What a coordinator hands a hospital: the federation's CA, its address, its request key, and the hospital's role.

The CA signs it all. A kit is no secret: it is made for one site's keys, and what vouches for it is the CA's
fingerprint, read over the telephone. It arrives by mail, though, so nothing in it is believed before the fingerprint
and the signature are right, and reading it is bounded.
"""

import io
import ipaddress
import json
import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from roiae.config import Role
from roiae.errors import SetupError
from roiae.identity.certificates import ca_fingerprint, certificate_key, load_certificate, same_fingerprint
from roiae.identity.keys import PrivateKey, PublicKey, sign, verify
from roiae.identity.request_key import RequestCertificate
from roiae.text import shown

PROTOCOL = 2  # of kits, requests and replies; raised when one side could no longer make sense of the other
NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"
KIT_JSON, CA_CERTIFICATE, KIT_SIGNATURE = "kit.json", "ca.crt", "kit.sig"

_LARGEST = 16_384  # bytes of a kit and of each member; a kit has some 3,000
_SIGNED_FOR = b"roiae kit\n"  # before the signed bytes, so that no other signature of the CA can pass for a kit's
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    labels = text.lower().split(".")
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise ValueError("a DNS name or an IP address, without https:// and without a port")
    return text.lower()


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Host = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, Field(ge=1, le=65_535)]


def address_of(host: str, port: int) -> str:
    """`host:port` as a URL has it, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Kit(BaseModel):
    """`kit.json`, once it is believed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    protocol: int
    roiae: str  # version of the coordinator that made the kit
    federation: Name
    host: Host
    port: Port
    site: Name
    role: Role
    site_fingerprint: str  # of the keys that the coordinator enrolled
    request_key: RequestCertificate  # as it is now; requests bring a newer one themselves

    @property
    def address(self) -> str:
        return address_of(self.host, self.port)

    def require_request_key(self, ca: PublicKey, where: object) -> None:
        """
        Raises:
            SetupError: the request key's certificate is not of this CA for this federation.
        """
        if not self.request_key.issued_by(ca, self.federation):
            raise SetupError(
                f"{where}: its request key is not certified by this federation's CA, so no request could be believed. "
                f"{_ASK_AGAIN}"
            )


def parse_kit(content: bytes, where: object) -> Kit:
    """
    Raises:
        SetupError: the text is not a `kit.json` of this protocol.
    """
    try:
        fields: Any = json.loads(content)
        protocol = fields["protocol"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise SetupError(f"{where}: {KIT_JSON} is not a kit's. {_ASK_AGAIN}") from None
    if protocol != PROTOCOL:
        raise SetupError(
            f"{where}: is a kit of protocol {shown(repr(protocol), 40)}, made by roiae "
            f"{shown(repr(fields.get('roiae')), 40)}; this roiae reads "
            f"protocol {PROTOCOL}. Install the coordinator's version of roiae."
        )
    if "request_key" not in fields:
        raise SetupError(
            f"{where}: names no request key, so no request could be believed. Ask the coordinator for a new kit: "
            "`roiae-server add-site … --replace` makes one."
        )
    try:
        return Kit.model_validate_json(content)
    except ValidationError as error:
        keys = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in error.errors()}))
        raise SetupError(f"{where}: {KIT_JSON} is not right at {shown(keys)}. {_ASK_AGAIN}") from None


def pack_kit(kit: Kit, ca_pem: bytes, ca_key: PrivateKey) -> bytes:
    """The zip that goes to the hospital."""
    content = kit.model_dump_json(indent=2).encode() + b"\n"
    members = {KIT_JSON: content, CA_CERTIFICATE: ca_pem, KIT_SIGNATURE: sign(ca_key, _SIGNED_FOR + content)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return packed.getvalue()


@dataclass(frozen=True)
class SealedKit:
    """A kit's three members as they came: nothing of them is believed yet."""

    path: Path
    kit_json: bytes
    ca_pem: bytes
    signature: bytes

    def unseal(self, fingerprint: str) -> Kit:
        """The kit, if its CA has this fingerprint and signed it.

        Raises:
            SetupError: the fingerprint is another CA's, the CA has expired, the signature is not the CA's, or the
                protocol is another one.
        """
        certificate = load_certificate(self.ca_pem, f"{self.path}: {CA_CERTIFICATE}")
        if not same_fingerprint(ca_fingerprint(self.ca_pem), fingerprint):
            raise SetupError(
                f"{self.path}: the fingerprint of its CA is\n  {ca_fingerprint(self.ca_pem)}\nand not what was given:\n"
                f"  {fingerprint}\nNothing was changed. Have all 64 digits read out again; if they still differ, the "
                "kit is not from the coordinator you are talking to: do not use it."
            )
        if certificate.not_valid_after_utc < datetime.now(UTC):
            raise SetupError(
                f"{self.path}: its CA expired on {certificate.not_valid_after_utc:%Y-%m-%d}. Check this machine's "
                "clock; if it is right, the coordinator has to begin a new federation."
            )
        key = certificate_key(certificate, f"{self.path}: {CA_CERTIFICATE}")
        if not verify(key, self.signature, _SIGNED_FOR + self.kit_json):
            raise SetupError(f"{self.path}: {KIT_JSON} is not what the coordinator's CA signed. {_ASK_AGAIN}")
        kit = parse_kit(self.kit_json, self.path)
        kit.require_request_key(key, self.path)
        return kit


def read_kit(path: Path) -> SealedKit:
    """The members of a kit, at most 16 KiB of each, whatever the file says of itself.

    Raises:
        SetupError: the file is missing, too large, no zip, or holds anything but a kit's three plain files.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise SetupError(
            f"{path}: cannot be read ({error.strerror}). Give the .kit.zip that the coordinator sent."
        ) from error
    if len(content) > _LARGEST:
        raise SetupError(f"{path}: is too large for a kit (more than {_LARGEST} bytes). {_ASK_AGAIN}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(archive, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError):
        raise SetupError(f"{path}: is damaged, or not a kit. {_ASK_AGAIN}") from None
    return SealedKit(path, members[KIT_JSON], members[CA_CERTIFICATE], members[KIT_SIGNATURE])


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, bytes]:
    entries = archive.infolist()
    expected = sorted((KIT_JSON, CA_CERTIFICATE, KIT_SIGNATURE))
    if sorted(entry.filename for entry in entries) != expected:
        raise SetupError(f"{path}: does not hold exactly {', '.join(expected)}, so it is not a kit. {_ASK_AGAIN}")
    members = {}
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise SetupError(f"{path}: {entry.filename} is a link or no plain file, which no kit has. {_ASK_AGAIN}")
        with archive.open(entry) as member:
            members[entry.filename] = member.read(_LARGEST + 1)
        if len(members[entry.filename]) > _LARGEST:
            raise SetupError(f"{path}: {entry.filename} is too large for a kit's. {_ASK_AGAIN}")
    return members


_ASK_AGAIN = "Ask the coordinator to send the kit again, as a file."
