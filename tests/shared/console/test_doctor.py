from pathlib import Path

import pytest

from roiae.config import ModelConfig
from roiae.console import doctor
from roiae.console.doctor import Level, check_disk, check_memory, check_versions
from roiae.method.forecast import coordinator_memory, training_memory, weights_bytes
from roiae.method.model import Autoencoder


def test_a_version_that_is_not_the_pinned_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"roiae": "0.1.0", "flwr": "1.40.0", "torch": "2.13.0+cpu"}
    required = ["flwr==1.41.0", "torch==2.13.0", "rich>=13", "flwr[simulation]==1.41.0; extra == 'ray'"]
    monkeypatch.setattr(doctor, "version", installed.__getitem__)
    monkeypatch.setattr(doctor, "requires", lambda _: required)

    finding = check_versions()

    assert (finding.level, finding.fix) == (Level.FAIL, "pip install flwr==1.41.0")


def test_the_installed_versions_pass() -> None:
    assert check_versions().level is Level.PASS


@pytest.mark.parametrize(("needed", "level"), [(1.0, Level.PASS), (1e18, Level.FAIL)])
def test_disk_and_memory_are_held_against_the_forecast(tmp_path: Path, needed: float, level: Level) -> None:
    assert check_disk(tmp_path / "not" / "yet", needed, "a cache").level is level
    assert check_memory(needed, "training").level is level


def test_the_forecast_counts_the_models_own_weights() -> None:
    model = ModelConfig(image_size=192, width=16, latent_dim=8)

    assert weights_bytes(model) == 4 * sum(p.numel() for p in Autoencoder(**model.model_dump()).parameters())


def test_the_forecast_of_training_is_near_what_was_measured() -> None:
    default, large = ModelConfig(), ModelConfig(image_size=512)
    narrow, wide, widest = (ModelConfig(width=width) for width in (8, 32, 64))

    # Peaks of whole processes on a CPU with torch 2.13, in MiB: the comment in forecast.py says how.
    for model, batch, measured in (
        (default, 4, 455), (default, 8, 514), (default, 16, 632), (large, 4, 695),
        (narrow, 16, 564), (wide, 4, 511), (wide, 16, 774), (widest, 8, 792),
    ):  # fmt: skip
        assert training_memory(model, batch) / 2**20 == pytest.approx(measured, rel=0.03)


def test_more_sites_take_more_of_the_coordinators_memory() -> None:
    assert coordinator_memory(ModelConfig(), 6) > coordinator_memory(ModelConfig(), 3)
