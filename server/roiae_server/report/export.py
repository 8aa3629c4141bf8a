"""A finished run's model for use elsewhere: its weights, the same as ONNX, an example, and a card for it."""

import hashlib
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import save
from torch import Tensor, nn

from roiae.console.terminal import say
from roiae.errors import EngineError, RunFolderError
from roiae.files import write_atomically, write_json
from roiae.method.exported import SETTINGS, WEIGHTS
from roiae.method.model import Autoencoder
from roiae.method.training import load_arrays
from roiae_server.report.facts import gather
from roiae_server.report.page import model_card
from roiae_server.run.federation import MODEL_FILES
from roiae_server.run.run_folder import RunFolder

ONNX = "model.onnx"
OUTPUTS = ("reconstruction", "code")
TOLERANCE = 1e-4  # of ONNX against PyTorch, absolute and relative
PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # of the extra `onnx`


def export(run_path: Path, to: Path, console: Console) -> None:
    """Write the model of phase 2 into a new folder; a failure leaves none.

    Raises:
        EngineError: the extra `onnx` is not installed, or what came of it does not compute what PyTorch does.
        RunFolderError: the run is not finished, or the folder is taken or cannot be written.
    """
    if missing := [package for package in PACKAGES if importlib.util.find_spec(package) is None]:
        raise EngineError(f"export: {', '.join(missing)} is not installed. Install it with `pip install roiae[onnx]`.")
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise RunFolderError(f"{to}: exists already. Give --to a new folder.")
    run = RunFolder.open_finished(run_path, "Give the folder of a finished one, for example DIR/runs/first.")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to.parent) as partial:
            written = Path(partial) / "model"
            written.mkdir()
            worst = _fill(written, run)
            written.replace(to)
    except OSError as error:
        raise RunFolderError(
            f"{to}: cannot be written ({error.strerror}). Give --to a folder that you may write to."
        ) from error
    finally:
        run.close()
    say(f"model.onnx differs from PyTorch by {worst:.1g} at most", console)
    say(f"Done. Read {to / 'MODEL_CARD.md'} before you hand the folder on.", console)


def _fill(folder: Path, run: RunFolder) -> float:
    """All files of the export; the largest difference between ONNX and PyTorch."""
    arrays = run.load_arrays(MODEL_FILES["phase2"])
    facts = gather(run)
    model = Autoencoder(**run.config.model.model_dump()).eval()
    load_arrays(model, arrays)
    write_atomically(folder / WEIGHTS, save(arrays))
    write_atomically(folder / ONNX, to_onnx(model, run.config.model.image_size))
    worst = _difference(model, folder / ONNX, run.config.model.image_size)
    settings = _settings(run, {name: (folder / name).read_bytes() for name in (WEIGHTS, ONNX)})
    write_json(folder / SETTINGS, settings)
    example = files("roiae_server.report") / "templates" / "example.py.txt"
    write_atomically(folder / "example.py", example.read_bytes())
    write_atomically(folder / "MODEL_CARD.md", model_card(facts))
    return worst


def _settings(run: RunFolder, content: dict[str, bytes]) -> dict[str, Any]:
    return {
        "model": run.config.model.model_dump(),
        "frame": "greyscale, each axis resized to image_size with a Lanczos filter, intensity in [0, 1]",
        "run": run.state.id,
        "versions": run.state.versions,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
    }


class _Both(nn.Module):
    """A frame's reconstruction and its code, from one pass."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        code = self.model.encode(frame)
        return self.model.decode(code), code


def to_onnx(model: Autoencoder, side: int) -> bytes:
    """The model as an ONNX file's content: `frame` [N, 1, side, side] → `reconstruction`, `code`."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / ONNX
        torch.onnx.export(
            _Both(model).eval(),
            (torch.zeros(2, 1, side, side),),
            path,
            input_names=["frame"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("N")},),
            external_data=False,
            verbose=False,
            dynamo=True,
        )
        return _without_traces(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter warns of its own deprecations, and of packages that a model of ours does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def _without_traces(path: Path) -> bytes:
    """The file without what the exporter notes of every node: this machine's paths, and lines of code."""
    import onnx

    found = onnx.load(path)
    for part in (found.graph, *found.graph.node, *found.graph.value_info, *found.graph.input, *found.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    return bytes(found.SerializeToString(deterministic=True))


@torch.no_grad()
def _difference(model: Autoencoder, path: Path, side: int) -> float:
    """Largest absolute difference of ONNX Runtime's outputs from PyTorch's, on one frame and on three.

    Raises:
        EngineError: beyond the tolerance.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for count in (1, 3):
        frame = torch.rand(count, 1, side, side, generator=generator)
        for name, found, expected in zip(
            OUTPUTS, session.run(OUTPUTS, {"frame": frame.numpy()}), _Both(model)(frame), strict=True
        ):
            worst = max(worst, float(np.abs(found - expected.numpy()).max()))
            if not np.allclose(found, expected.numpy(), rtol=TOLERANCE, atol=TOLERANCE):
                raise EngineError(
                    f"export: the {name} of ONNX Runtime differs from PyTorch's by {worst:.2g}, more than {TOLERANCE}. "
                    "Nothing was written; install torch, onnx and onnxruntime as constraints.txt pins them."
                )
    return worst
