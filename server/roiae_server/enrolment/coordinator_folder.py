"""A coordinator's folder: who takes part, the CA that vouches for the coordinator, and where everything else lies.

coordinator.yaml   the federation's name and address          kits/       what was handed to each hospital
federation.yaml    the configuration of a run                 runs/       a folder a run
sites.json         enrolled sites: role, public keys, date    superlink/  Flower's database; rebuilt from sites.json
pki/               CA, server's certificate, request key      log/
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from roiae.commented_yaml import commented_yaml
from roiae.config import Role, RunConfig, build_config, descriptions, read_settings
from roiae.errors import ConfigError, ServiceError, SetupError
from roiae.files import write_atomically
from roiae.folders import new_folder, require_folder
from roiae.identity.keys import SiteKeys, require_private_mode
from roiae.identity.kit import PROTOCOL, Host, Kit, Name, Port, pack_kit
from roiae.schema_errors import explained
from roiae.wire.signed_request import RequestSigner
from roiae_server.enrolment.authority import (
    CA_CERTIFICATE,
    CA_KEY,
    SERVER_CERTIFICATE,
    SERVER_KEY,
    Authority,
    create_pki,
    renew_server,
)
from roiae_server.enrolment.federation_key import REQUEST_KEY, load_signer, read_certificate, renew_request_key
from roiae_server.enrolment.federation_yaml import federation_yaml
from roiae_server.enrolment.site_list import Enrolled, Sites, with_keys, with_site, without_site

COORDINATOR, FEDERATION, SITES = "coordinator.yaml", "federation.yaml", "sites.json"
LAST_CONTACT = "last_contact.json"  # ledger heads and versions, as hospitals' replies said them
PKI, KITS, RUNS, SUPERLINK, LOG = "pki", "kits", "runs", "superlink", "log"
LOCK = ".lock"
LOCK_PATIENCE = 10.0  # seconds; a command holds the lock for a few hundredths of one


class CoordinatorConfig(BaseModel):
    """`coordinator.yaml`: what hospitals are told of this coordinator."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    federation: Name = Field(description="the federation's name; fixed, because the CA carries it")
    host: Host = Field(description="name or address that hospitals connect to; after a change: renew, and new kits")
    port: Port = Field(8443, description="the one public port; after a change: new kits")


_SITES = TypeAdapter(dict[Name, Enrolled])


class CoordinatorFolder:
    """The files of one federation's coordinator; `sites` is read afresh each time, so a revocation holds at once."""

    def __init__(self, path: Path, config: CoordinatorConfig) -> None:
        self.path, self.config = path, config

    @classmethod
    def create(cls, path: Path, host: str, port: int, name: str) -> "CoordinatorFolder":
        """A new federation in a folder that is absent or empty; an attempt that fails leaves nothing behind.

        Raises:
            ConfigError: host, port or name is impossible.
            SetupError: the folder holds something already, or cannot be written.
        """
        folder = cls(path, _check_config({"federation": name, "host": host, "port": port}, "init"))
        with new_folder(path, COORDINATOR):
            folder._fill()
        return folder

    @classmethod
    def open(cls, path: Path) -> "CoordinatorFolder":
        """
        Raises:
            ConfigError: coordinator.yaml has an unknown or impossible setting.
            SetupError: the folder is missing or not a coordinator's, or a private key is missing or open to others.
        """
        require_folder(path, COORDINATOR, "a coordinator's", "roiae-server init")
        folder = cls(path, _check_config(read_settings(path / COORDINATOR), path / COORDINATOR))
        require_private_mode(folder.ca_key)
        require_private_mode(folder.server_key)
        require_private_mode(folder.request_key)
        return folder

    @property
    def ca_key(self) -> Path:
        return self.path / PKI / CA_KEY

    @property
    def ca_certificate(self) -> Path:
        return self.path / PKI / CA_CERTIFICATE

    @property
    def server_key(self) -> Path:
        return self.path / PKI / SERVER_KEY

    @property
    def server_certificate(self) -> Path:
        return self.path / PKI / SERVER_CERTIFICATE

    @property
    def request_key(self) -> Path:
        return self.path / PKI / REQUEST_KEY

    @property
    def pki(self) -> Path:
        return self.path / PKI

    @property
    def runs(self) -> Path:
        return self.path / RUNS

    @property
    def superlink(self) -> Path:
        return self.path / SUPERLINK

    @property
    def log(self) -> Path:
        return self.path / LOG

    def kit_path(self, name: str) -> Path:
        return self.path / KITS / f"{name}.kit.zip"

    @property
    def run_config(self) -> RunConfig:
        """The configuration of a run, as federation.yaml has it now.

        Raises:
            ConfigError: the file is missing, or a setting is unknown, ill-typed or impossible.
        """
        return build_config(read_settings(self.path / FEDERATION))

    @property
    def sites(self) -> Mapping[str, Enrolled]:
        """The enrolled sites by name, sorted.

        Raises:
            SetupError: sites.json is missing or damaged.
        """
        path = self.path / SITES
        try:
            return dict(sorted(_SITES.validate_json(path.read_bytes()).items()))
        except (OSError, ValidationError) as error:
            raise SetupError(f"{path}: cannot be used ({type(error).__name__}). Restore it from a backup.") from error

    def add_site(self, name: str, role: Role, keys: SiteKeys) -> Path:
        """Enrol a site and return its kit.

        Raises:
            SetupError: the name is impossible or taken, another site has one of these keys, or a held-out site exists.
            ServiceError: another command holds the folder.
        """
        with self._changing():
            return self._enrol(with_site(self.sites, name, role, keys), name)

    def replace_keys(self, name: str, role: Role, keys: SiteKeys) -> Path:
        """Exchange an enrolled site's keys, or make its kit again if they are the same; no other site is touched.

        Raises:
            SetupError: no such site, it has another role, or another site has one of these keys.
            ServiceError: another command holds the folder.
        """
        with self._changing():
            return self._enrol(with_keys(self.sites, name, role, keys), name)

    def remove_site(self, name: str) -> Enrolled:
        """Revoke a site: from now on its keys are nobody's.

        Returns:
            What was removed.

        Raises:
            SetupError: no such site.
            ServiceError: another command holds the folder.
        """
        with self._changing():
            sites = self.sites
            self._write_sites(without_site(sites, name))
            self.kit_path(name).unlink(missing_ok=True)
            return sites[name]

    def renew(self) -> None:
        """A new server certificate from the same CA for the host in coordinator.yaml; no hospital notices.

        Raises:
            SetupError: the CA or the server's key cannot be used, or the CA has expired.
            ServiceError: another command holds the folder.
        """
        with self._changing():
            renew_server(self.pki, self.config.host)

    def renew_request_key(self) -> int:
        """A new key that signs requests, with the next number; a hospital takes it up with the first that it signs.

        The kits are made again with it, for those who join later: no hospital that has joined needs its own again.

        Returns:
            Its number.

        Raises:
            SetupError: the CA or the present key's certificate cannot be used.
            ServiceError: another command holds the folder.
        """
        with self._changing():
            number = renew_request_key(self.pki, self.config.federation)
            for name, site in self.sites.items():
                self._write_kit(name, site)
            return number

    def load_signer(self) -> RequestSigner:
        """What signs requests: for the run's working process alone.

        Raises:
            SetupError: key, certificate and CA cannot be used, or do not belong together.
        """
        return load_signer(self.pki, self.config.federation)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other commands. A lock ends with its process, so one left by a dead one is none.

        Raises:
            ServiceError: another command holds it.
        """
        lock = FileLock(self.path / LOCK, timeout=LOCK_PATIENCE)
        try:
            lock.acquire()
        except Timeout:
            raise ServiceError(
                f"{self.path}: another roiae-server command is changing this folder. Wait for it, then try again."
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            with self.locked():
                yield
        except OSError as error:
            raise SetupError(
                f"{error.filename or self.path}: cannot be written ({error.strerror}). "
                "Run this as the user who owns the folder, and see that its disk is not full."
            ) from error

    def _enrol(self, sites: Sites, name: str) -> Path:
        """The kit before the list: a site that is enrolled always has one."""
        path = self._write_kit(name, sites[name])
        self._write_sites(sites)
        return path

    def _write_kit(self, name: str, site: Enrolled) -> Path:
        authority, path = Authority.load(self.pki), self.kit_path(name)
        kit = Kit(
            protocol=PROTOCOL,
            roiae=version("roiae"),
            **self.config.model_dump(),
            site=name,
            role=site.role,
            site_fingerprint=site.keys.fingerprint,
            request_key=read_certificate(self.pki),
        )
        write_atomically(path, pack_kit(kit, authority.pem, authority.key))
        return path

    def _write_sites(self, sites: Sites) -> None:
        write_atomically(self.path / SITES, _SITES.dump_json(sites, indent=2) + b"\n")

    def _fill(self) -> None:
        """coordinator.yaml last: the folder is a coordinator's once that is there."""
        for name in (PKI, KITS, RUNS, SUPERLINK, LOG):
            (self.path / name).mkdir(mode=0o700)
        create_pki(self.pki, self.config.federation, self.config.host)
        renew_request_key(self.pki, self.config.federation)
        self._write_sites({})
        write_atomically(self.path / FEDERATION, federation_yaml().encode())
        text = commented_yaml(
            "What hospitals are told of this coordinator.",
            self.config.model_dump(),
            dict(descriptions(CoordinatorConfig)),
        )
        write_atomically(self.path / COORDINATOR, text.encode())


def _check_config(settings: Mapping[str, Any], where: Path | str) -> CoordinatorConfig:
    try:
        return CoordinatorConfig.model_validate(settings)
    except ValidationError as error:
        known = [name for name, _ in descriptions(CoordinatorConfig)]
        raise ConfigError(
            f"{where}: " + "\n  ".join(explained(error, known, "`roiae-server init` wrote them all."))
        ) from None
