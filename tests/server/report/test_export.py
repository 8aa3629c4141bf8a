"""`roiae-server export`: a model that others can use, or a message why there is none."""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from roiae.data.frames import read_frame, square_frame
from roiae.method.model import Autoencoder
from roiae.method.training import load_arrays
from roiae_server.report import export
from tests.conftest import MODEL, Command
from tests.server.report.conftest import MakeRun, make_run

__all__ = ["make_run"]


def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    make_run: MakeRun, roiae_server: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    run = make_run()
    run.close()

    code, _, err = roiae_server(["export", str(run.path), "--to", str(tmp_path / "out")])

    assert (code, "onnxscript is not installed" in err, "roiae[onnx]" in err) == (7, True, True)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(make_run: MakeRun, roiae_server: Command, tmp_path: Path) -> None:
    run = make_run()
    run.close()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()

    code, _, err = roiae_server(["export", str(run.path), "--to", str(tmp_path / "out")])

    assert (code, "exists already" in err) == (5, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@pytest.mark.parametrize(("name", "message"), [("none", "no such run"), ("begun", "is not finished")])
def test_only_a_finished_run_is_exported(
    make_run: MakeRun, roiae_server: Command, tmp_path: Path, name: str, message: str
) -> None:
    run = make_run("begun")
    run.close()
    state = run.path / "state.json"
    state.write_text(state.read_text().replace('"done"', '"running"'))

    code, _, err = roiae_server(["export", str(tmp_path / name), "--to", str(tmp_path / "out")])

    assert (code, message in err) == (5, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_exported_models_reconstruct_a_frame_as_the_run_does(
    finished: Path, hospitals: Path, roiae_server: Command, tmp_path: Path
) -> None:
    out = finished / "export"
    code, said, err = roiae_server(["export", str(finished)])
    assert (code, err) == (0, "")
    assert "differs from PyTorch by" in said
    assert sorted(path.name for path in out.iterdir()) == [
        "MODEL_CARD.md", "example.py", "model.onnx", "model.safetensors", "settings.json"
    ]  # fmt: skip

    frame = next((hospitals / "gamma" / "images").iterdir())
    shutil.copy(frame, tmp_path / "frame.png")
    ended = subprocess.run(
        [sys.executable, str(out / "example.py"), "frame.png"],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr

    settings = json.loads((out / "settings.json").read_text())
    model = Autoencoder(**settings["model"]).eval()
    load_arrays(model, load_file(out / "model.safetensors"))
    square = torch.from_numpy(square_frame(read_frame(frame).pixels, MODEL.image_size).copy())[None, None].float() / 255
    with torch.no_grad():
        expected_code, expected = model.encode(square), model(square)
    np.testing.assert_allclose(np.array(ended.stdout.split(), float), expected_code[0].numpy(), rtol=1e-4, atol=1e-4)
    with Image.open(tmp_path / "reconstruction.png") as picture:
        difference = np.asarray(picture).astype(float) - 255 * expected[0, 0].numpy()
    assert np.abs(difference).max() <= 0.51  # rounded to whole grey levels
    for name, digest in settings["sha256"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    traces = (str(Path(torch.__file__).parent), "roiae/model.py", str(Path.home()))
    assert not any(text.encode() in (out / "model.onnx").read_bytes() for text in traces)


@pytest.mark.slow
def test_a_model_that_computes_something_else_is_not_handed_on(
    finished: Path, roiae_server: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Autoencoder(**MODEL.model_dump()).eval()
    write = export.to_onnx
    monkeypatch.setattr(export, "to_onnx", lambda model, side: write(other, side))

    code, _, err = roiae_server(["export", str(finished), "--to", str(tmp_path / "out")])

    assert (code, "differs from PyTorch's" in err) == (7, True)
    assert {path.name for path in tmp_path.iterdir()} & {"out", "model"} == set()
