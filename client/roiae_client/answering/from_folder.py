"""A hospital's responder over its own folder: its data, its limits, its key, its ledger."""

from roiae.config import Role
from roiae.data.site_data import default_cache_dir
from roiae.errors import SetupError
from roiae.site.answers import Site, SiteFolder
from roiae_client.answering.gate import Trusted
from roiae_client.answering.ledger import Ledger
from roiae_client.answering.responder import Responder
from roiae_client.folder.check_record import require_unchanged
from roiae_client.folder.hospital_folder import HospitalFolder
from roiae_client.folder.service_state import ServiceState
from roiae_client.folder.site_config import SiteConfig


def open_responder(folder: HospitalFolder) -> Responder:
    """
    Raises:
        SetupError: the keys cannot be used, or the hospital has not joined.
        LedgerError: the ledger is not what was written.
        ServiceError: another process has the ledger.
    """
    state, kit = ServiceState(folder.state), folder.kit
    return Responder(
        folder.config,
        folder.private_key(),
        Trusted(kit.federation, folder.ca_key, kit.request_key),
        Ledger(folder.ledger),
        lambda image_size, config: open_site(folder, image_size, config),
        withdrawn=lambda: state.withdrawn,
    )


def open_site(folder: HospitalFolder, image_size: int, config: SiteConfig) -> Site:
    """The site at a model's image size, px; its frames are read into the cache if they are not there yet.

    Raises:
        ConfigError: `device` in `site.yaml` is none of this machine's.
        DataError: the data folder, its manifest or a frame cannot be used, or the data changed since their check.
        SetupError: the hospital has not joined, so that its role is not known.
    """
    if config.role is None:
        raise SetupError(f"{folder.path}: has no role yet; `roiae-client join` fills it in.")
    site = SiteFolder(
        name=config.name,
        role=Role(config.role),
        folder=config.data,
        cache_dir=default_cache_dir(),
        image_size=image_size,
        validation_share=config.validation_share,
        max_bad_share=config.max_bad_share,
        privacy=config.privacy,
        state=folder.state / "shift",
        device=config.device,
    ).open()
    require_unchanged(folder.path, site.data.fingerprint)
    return site
