"""A hospital's folder: its settings, its keys, what the coordinator gave it, and what it has sent.

site.yaml            what this hospital has decided       kit.json, ca.crt  the federation, once joined
reply.key, node.key  the private keys; they never leave   ledger.jsonl      a line for everything that left
NAME.pub             the public ones, to be sent          state/, log/      what the service keeps for itself
"""

import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from roiae.commented_yaml import commented_yaml
from roiae.config import Role, descriptions
from roiae.errors import ConfigError, DataError, SetupError
from roiae.files import write_atomically
from roiae.folders import new_folder, require_folder
from roiae.identity.certificates import certificate_key, load_certificate
from roiae.identity.keys import PrivateKey, PublicKey, SiteKeys, create_key, load_private, read_public
from roiae.identity.kit import CA_CERTIFICATE, KIT_JSON, Kit, parse_kit, read_kit
from roiae_client.folder.site_config import SITE_CONFIG, SiteConfig, read_site_config

REPLY_KEY, NODE_KEY = "reply.key", "node.key"
LEDGER, STATE, LOG = "ledger.jsonl", "state", "log"
DATA = "data"  # in the hospital's folder, where none is named

_HEAD = """\
What this hospital allows; nothing that a coordinator sends can change it. Read it, change it, then join.
docs/HOSPITAL.md explains each setting and says what leaves the building."""


class HospitalFolder:
    """The files of one hospital in one federation."""

    def __init__(self, path: Path, config: SiteConfig) -> None:
        self.path, self.config = path, config

    @classmethod
    def create(cls, path: Path, name: str, data: Path | None) -> "HospitalFolder":
        """A new hospital with keys of its own, in a folder that is absent or empty.

        Args:
            data: the folder with manifest.csv and its images; None for a new `data` in the hospital's folder.

        Raises:
            ConfigError: the name is impossible.
            DataError: the data folder does not exist.
            SetupError: the folder holds something already, or cannot be written.
        """
        if data is not None and not data.is_dir():
            raise DataError(f"{data}: is not a folder. Give --data the folder with manifest.csv and its images.")
        try:
            config = SiteConfig(name=name, data=data.resolve() if data else Path(DATA))
        except ValidationError:
            raise ConfigError(f"--name {name}: small letters, digits and hyphens, at most 63, make a name.") from None
        with new_folder(path, SITE_CONFIG):
            for folder in (STATE, LOG, *(() if data else (DATA,))):
                (path / folder).mkdir()
            keys = SiteKeys(*(create_key(path / key).public_key() for key in (REPLY_KEY, NODE_KEY)))
            write_atomically(path / f"{name}.pub", keys.lines(name).encode())
            write_atomically(path / SITE_CONFIG, _site_yaml(config).encode())
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> "HospitalFolder":
        """
        Raises:
            ConfigError: site.yaml has an unknown or impossible setting.
            SetupError: the folder is missing or not a hospital's.
        """
        require_folder(path, SITE_CONFIG, "a hospital's", "roiae-client init")
        return cls(path, read_site_config(path))

    @property
    def reply_key(self) -> Path:
        return self.path / REPLY_KEY

    @property
    def node_key(self) -> Path:
        return self.path / NODE_KEY

    @property
    def public_keys(self) -> Path:
        return self.path / f"{self.config.name}.pub"

    @property
    def ca_certificate(self) -> Path:
        return self.path / CA_CERTIFICATE

    @property
    def ledger(self) -> Path:
        return self.path / LEDGER

    @property
    def state(self) -> Path:
        return self.path / STATE

    @property
    def log(self) -> Path:
        return self.path / LOG

    def private_key(self) -> PrivateKey:
        """The one that signs replies; the other is Flower's alone.

        Raises:
            SetupError: the key is missing, open to others, or not a site's key.
        """
        return load_private(self.reply_key)

    @property
    def keys(self) -> SiteKeys:
        """The public halves of both private keys.

        Raises:
            SetupError: as `private_key`, or they do not belong together, as a rotation that was killed leaves them.
        """
        keys = SiteKeys(*(load_private(path).public_key() for path in (self.reply_key, self.node_key)))
        if self.public_keys.exists() and read_public(self.public_keys)[0] != keys:
            raise SetupError(
                f"{self.path}: {REPLY_KEY}, {NODE_KEY} and {self.public_keys.name} do not belong together: a rotation "
                f"was cut short, or a file is of another one. Type `roiae-client rotate {self.path}`."
            )
        return keys

    @property
    def fingerprint(self) -> str:
        """Of both keys, as the coordinator has to see it.

        Raises:
            SetupError: as `keys`.
        """
        return self.keys.fingerprint

    @property
    def ca_key(self) -> PublicKey:
        """Of the federation that was joined.

        Raises:
            SetupError: its certificate is missing or damaged.
        """
        path = self.ca_certificate
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SetupError(f"{path}: cannot be read ({error.strerror}). Join again with the kit.") from error
        return certificate_key(load_certificate(content, path), path)

    @property
    def joined(self) -> bool:
        """Whether a kit was accepted here; `kit` also says whether it still fits the key."""
        return (self.path / KIT_JSON).exists()

    @property
    def kit(self) -> Kit:
        """What the coordinator said when this hospital joined.

        Raises:
            SetupError: the hospital has not joined, its keys were rotated since, or the kit's request key is not the
                federation's.
        """
        path = self.path / KIT_JSON
        if not self.joined or not self.ca_certificate.exists():
            raise SetupError(
                f"{self.path}: has not joined a federation yet. Type "
                f"`roiae-client join {self.path} KIT --ca-fingerprint F` with the kit that the coordinator sent."
            )
        kit = parse_kit(path.read_bytes(), path)
        kit.require_request_key(self.ca_key, path)
        if kit.site_fingerprint != self.fingerprint:
            raise SetupError(
                f"{self.path}: the keys were rotated, and the coordinator's kit is for the ones before. "
                f"Send {self.public_keys.name} to the coordinator, and join again with the new kit."
            )
        return kit

    def join(self, kit_path: Path, ca_fingerprint: str) -> Kit:
        """Believe a kit, and keep what it says; nothing is written before everything about it is right.

        Args:
            ca_fingerprint: as the coordinator read it out.

        Raises:
            SetupError: the kit is damaged, not the coordinator's, or not for this hospital, its keys or its role.
        """
        sealed = read_kit(kit_path)
        kit = sealed.unseal(ca_fingerprint)
        self._refuse_foreign(kit, kit_path)
        if self.ca_certificate.exists() and self.ca_certificate.read_bytes() != sealed.ca_pem:
            raise SetupError(
                f"{self.path}: has joined another federation, with another CA. A hospital's folder serves one: "
                f"make another folder with `roiae-client init`, and keep this one for its {LEDGER}."
            )
        settings = self._with_role(kit.role)
        try:
            write_atomically(self.ca_certificate, sealed.ca_pem)
            write_atomically(self.path / SITE_CONFIG, settings.encode())
            write_atomically(self.path / KIT_JSON, sealed.kit_json)
        except OSError as error:
            raise SetupError(f"{self.path}: cannot be written ({error.strerror}). Then join again.") from error
        self.config = read_site_config(self.path)
        return kit

    def rotate(self) -> None:
        """Make new keys and put them in the old ones' place once they are whole; the old ones are gone then.

        The .pub file is written last: until then it does not fit the private keys, and `keys` says so.

        Raises:
            SetupError: the folder cannot be written.
        """
        places = (self.reply_key, self.node_key)
        coming = [path.with_name(f"{path.name}.new") for path in places]
        try:
            for path in coming:
                path.unlink(missing_ok=True)  # of a rotation that was killed: never in use
            keys = SiteKeys(*(create_key(path).public_key() for path in coming))
            for new, old in zip(coming, places, strict=True):
                new.replace(old)
            write_atomically(self.public_keys, keys.lines(self.config.name).encode())
        except OSError as error:
            raise SetupError(f"{self.path}: cannot be written ({error.strerror}). Then rotate again.") from error

    def _refuse_foreign(self, kit: Kit, path: Path) -> None:
        if kit.site != self.config.name:
            raise SetupError(
                f"{path}: is the kit of {kit.site}; this hospital is {self.config.name}. "
                f"Ask the coordinator for {self.config.name}.kit.zip."
            )
        if kit.site_fingerprint != self.fingerprint:
            raise SetupError(
                f"{path}: is for other keys ({kit.site_fingerprint}) than this hospital's ({self.fingerprint}). "
                f"Send {self.public_keys} to the coordinator, who types `roiae-server add-site … --replace`."
            )
        if self.config.role not in (None, kit.role):
            raise SetupError(
                f"{path}: enrols this hospital as {kit.role}; {SITE_CONFIG} says {self.config.role}. Agree with "
                f"the coordinator which is right; for {kit.role}, write `role: null` there and join again."
            )

    def _with_role(self, role: Role) -> str:
        """site.yaml with the role set, every other line as it was."""
        path = self.path / SITE_CONFIG
        text = path.read_text(encoding="utf-8")
        changed, lines = re.subn(r"^role:[^#\n]*?(?=[ \t]*(#|$))", f"role: {role}", text, count=1, flags=re.M)
        if not lines:
            changed = f"{text.rstrip()}\nrole: {role}\n"
        try:
            right = yaml.safe_load(changed) == {**yaml.safe_load(text), "role": str(role)}
        except yaml.YAMLError:
            right = False
        if not right:
            raise SetupError(f"{path}: its role cannot be filled in. Write `role: {role}` there, then join again.")
        return changed


def _site_yaml(config: SiteConfig) -> str:
    settings = config.model_dump(mode="json")
    for chosen in ("requests", "optimizers"):
        settings["limits"][chosen].sort()
    return commented_yaml(_HEAD, settings, dict(descriptions(SiteConfig)))
