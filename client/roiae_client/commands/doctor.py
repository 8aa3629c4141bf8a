"""`roiae-client doctor`: what would stop this hospital's machine from taking part, and how to mend it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from roiae.config import Device, ModelConfig, TrainConfig
from roiae.console.doctor import (
    Finding,
    check_disk,
    check_expiry,
    check_memory,
    check_own_folder,
    check_private,
    check_versions,
    conclude,
    failed,
    load_certificates,
    passed,
    warned,
)
from roiae.errors import ConfigError, DataError, LedgerError, SetupError
from roiae.identity.kit import CA_CERTIFICATE, KIT_JSON
from roiae_client.answering.ledger import LedgerReader
from roiae_client.folder.hospital_folder import LEDGER, NODE_KEY, REPLY_KEY, HospitalFolder
from roiae_client.folder.site_config import Limits, read_site_config
from roiae_client.recipe.loosened import loosened
from roiae_client.service.connectivity import Coordinator, check_reach


def register(app: typer.Typer) -> None:
    """Add `doctor` to the command line."""

    @app.command()
    def doctor(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's folder, as `init` made it.")],
    ) -> None:
        """Look at name, port, TLS, clock, disk, memory, versions and device. Nothing of the data is sent."""
        from rich.console import Console

        conclude(examine(folder), Console(), f"roiae-client start {folder}")


def examine(folder: Path) -> Iterator[Finding]:
    """Every finding about a hospital's folder and machine, the coordinator last."""
    if not folder.is_dir():
        yield failed(f"{folder}: no such folder", "roiae-client init makes one")
        return
    yield check_own_folder(folder)
    yield check_private(folder / REPLY_KEY)
    yield check_private(folder / NODE_KEY)
    yield check_ledger(folder / LEDGER)
    yield check_versions()
    try:
        config = read_site_config(folder)
    except ConfigError as error:
        yield failed(str(error), "correct site.yaml")
        bundle = None
    else:
        yield check_device(config.device)
        yield from check_limits(config.limits)
        yield from check_data(config.data)
        bundle = config.ca_bundle
    yield from _coordinator(folder, bundle)


def check_ledger(path: Path) -> Finding:
    """Every line is as it was written, and the coordinator has seen none that is not here."""
    try:
        reader = LedgerReader(path)
        lines = sum(1 for _ in reader)
    except (LedgerError, SetupError) as error:
        return failed(str(error), "docs/LEDGER.md says how to go on")
    if reader.claimed:
        return failed(f"ledger: {reader.claimed.unknown}", "compare with what the coordinator has: docs/LEDGER.md")
    return passed(f"ledger: {lines} lines, as they were written")


def check_kit(folder: Path) -> Finding:
    """The kit is for this hospital's keys, and the federation's CA certified its request key."""
    try:
        number = HospitalFolder.open(folder).kit.request_key.number
    except (ConfigError, SetupError) as error:
        return failed(str(error), "roiae-client join again, with the coordinator's kit")
    return passed(f"kit: for this hospital's keys, with request key {number} of the federation's CA")


def check_device(device: Device = "auto") -> Finding:
    """What the model will be trained on.

    Args:
        device: as `site.yaml` has it.
    """
    import torch

    from roiae.method.hardware import find_device

    try:
        found = find_device(device)
    except ConfigError as error:
        return failed(str(error), "correct device in site.yaml")
    if found.type == "cuda":
        return passed(f"device: {torch.cuda.get_device_name()}")
    if found.type == "mps":
        return passed("device: this machine's GPU, through Metal")
    threads = torch.get_num_threads()
    what = f"device: CPU, {threads} threads"
    return passed(what) if threads > 1 else warned(what, "a second core halves the time of a round")


def check_limits(limits: Limits) -> Iterator[Finding]:
    """What this site gives away by limits that it has loosened."""
    sentences = list(loosened(limits))
    if not sentences:
        yield passed("limits: as shipped, or tighter")
    for sentence in sentences:
        yield warned(f"limits: {sentence}", "put it back in site.yaml, or keep it as this hospital's own decision")


def check_data(folder: Path, model: ModelConfig | None = None) -> Iterator[Finding]:
    """The data folder, and what its frames will take of disk and memory.

    Args:
        model: that will be trained; the default one without it.
    """
    from roiae.data.manifest import read_manifest
    from roiae.data.site_data import default_cache_dir
    from roiae.method.forecast import cache_bytes, hospital_memory

    model, batch_size = model or ModelConfig(), TrainConfig().batch_size
    try:
        rows = read_manifest(folder)
    except DataError as error:
        yield failed(str(error), f"correct it, then: roiae-client check {folder}")
        return
    unreadable = sum(not _readable(row.image) for row in rows)
    if unreadable:
        yield failed(f"data: {unreadable} of {len(rows)} images cannot be read by this user", "grant read access")
    else:
        yield passed(f"data: {len(rows)} frames, readable; nothing is written there")
    frames = f"the cache of {len(rows)} frames at {model.image_size} px"
    yield check_disk(default_cache_dir(), cache_bytes(model, len(rows)), frames)
    yield check_memory(hospital_memory(model, batch_size), f"training in batches of {batch_size}")


def _readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _coordinator(folder: Path, bundle: Path | None) -> Iterator[Finding]:
    try:
        kit = json.loads((folder / KIT_JSON).read_text(encoding="utf-8"))
        coordinator = Coordinator(str(kit["host"]), int(kit["port"]), folder / CA_CERTIFICATE, bundle)
    except FileNotFoundError:
        yield failed(f"{folder}: has not joined a federation", "roiae-client join, with the coordinator's kit")
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield failed(f"{folder / KIT_JSON}: is damaged", "roiae-client join again, with the coordinator's kit")
        return
    authority = load_certificates(folder / CA_CERTIFICATE)
    if isinstance(authority, Finding):
        yield authority
        return
    yield check_kit(folder)
    yield check_expiry("the federation's CA certificate", authority[0].not_valid_after_utc, "ask for a new kit")
    yield from check_reach(coordinator)
