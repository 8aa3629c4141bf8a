"""A model that was handed on is taken up whole, or not at all."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from roiae.errors import SetupError
from roiae.method.exported import read_exported
from roiae.method.training import arrays_of
from roiae.wire.contract import Arrays
from tests.conftest import MODEL


def write_exported(folder: Path, arrays: Arrays) -> Path:
    """What `roiae-server export` writes, as far as it is read back."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(save(arrays))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    settings = {
        "model": MODEL.model_dump(),
        "run": "0123abcd",
        "sha256": {"model.safetensors": digest},
        "frame": "grey",
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_the_model_is_the_one_that_was_handed_on(initial: Arrays, tmp_path: Path, name: str) -> None:
    exported = read_exported(write_exported(tmp_path / "model", initial) / name)

    assert (exported.image_size, exported.run, len(exported.sha256)) == (MODEL.image_size, "0123abcd", 64)
    for array, expected in zip(arrays_of(exported.model).values(), initial.values(), strict=True):
        np.testing.assert_array_equal(array, expected)


def _cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])


def _of_another_width(folder: Path) -> None:
    settings = json.loads((folder / "settings.json").read_text())
    settings["model"]["width"] = 8
    (folder / "settings.json").write_text(json.dumps(settings))


def _impossible(folder: Path) -> None:
    (folder / "settings.json").write_text('{"model": {"image_size": 100}}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "settings.json").unlink(), "is no exported model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is no exported model"),
        (lambda folder: (folder / "settings.json").write_text("[]"), "is not what `roiae-server export` writes"),
        (_impossible, "is not what `roiae-server export` writes"),
        (_cut, "was altered or cut short"),
        (_of_another_width, "does not fit settings.json"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(
    initial: Arrays, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = write_exported(tmp_path / "model", initial)
    damage(folder)

    with pytest.raises(SetupError, match=message):
        read_exported(folder)


def test_weights_that_are_not_safetensors_are_refused(tmp_path: Path) -> None:
    folder = write_exported(tmp_path / "model", {"a": torch.zeros(1).numpy()})
    (folder / "model.safetensors").write_bytes(b"pickle")
    settings = json.loads((folder / "settings.json").read_text())
    settings["sha256"]["model.safetensors"] = hashlib.sha256(b"pickle").hexdigest()
    (folder / "settings.json").write_text(json.dumps(settings))

    with pytest.raises(SetupError, match="does not fit"):
        read_exported(folder)
