"""A federation as a function: trained quietly, and what came of it as an object."""

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from roiae.errors import RunFolderError
from roiae.method.model import Autoencoder
from roiae.method.training import load_arrays
from roiae_lab.simulation import Engine, Simulation
from roiae_lab.simulation import simulate as run_simulation
from roiae_server.run.federation import MODEL_FILES, Observer
from roiae_server.run.records import Line
from roiae_server.run.run_folder import QUALITY, SHIFT, RunFolder

for _package in ("roiae", "roiae_client", "roiae_server"):  # what hospitals log is for whoever asks for it
    logging.getLogger(_package).addHandler(logging.NullHandler())

ModelName = Literal["phase1", "phase2", "control"]


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder each time it is asked."""

    path: Path

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting of the run, nested, as docs/CONFIGURATION.md has them."""
        with closing(self._folder()) as folder:
            return folder.config.model_dump(mode="json")

    @property
    def quality(self) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
        """Means by model, site and measure: PSNR in dB, MS-SSIM, ROI MAE, ROI Edge-MAE, and the NT's."""
        quality: Mapping[str, Mapping[str, Mapping[str, float]]] = self._read(QUALITY)
        return quality

    @property
    def shift(self) -> Mapping[str, Any]:
        """The held-out hospital's scores for domain shift, as docs/SHIFT.md has them."""
        shift: Mapping[str, Any] = self._read(SHIFT)
        return shift

    @property
    def weights(self) -> Mapping[str, float]:
        """Of phase 2's loss terms, as they were calibrated or set."""
        with closing(self._folder()) as folder:
            return folder.weights

    @property
    def rounds(self) -> list[Line]:
        """What each site answered in each step, as docs/REPORT.md has it."""
        with closing(self._folder()) as folder:
            return folder.rounds()

    @property
    def report(self) -> Path:
        """A page to open in a browser."""
        return self.path / "report.html"

    def model(self, name: ModelName = "phase2") -> Autoencoder:
        """A trained network, ready to reconstruct.

        Raises:
            RunFolderError: the run has no such model.
        """
        with closing(self._folder()) as folder:
            model = Autoencoder(**folder.config.model.model_dump())
            load_arrays(model, folder.load_arrays(MODEL_FILES[name]))
        return model.eval()

    def _read(self, name: str) -> Any:
        with closing(self._folder()) as folder:
            return folder.read_json(name)

    def _folder(self) -> RunFolder:
        folder = RunFolder.open(self.path)
        if folder is None:
            raise RunFolderError(f"{self.path}: no run is there any more.")
        return folder


def simulate(
    data: str | Path | None = None,
    *,
    out: str | Path,
    holdout: str | None = None,
    settings: Mapping[str, Any] | None = None,
    engine: Engine = "local",
    resume: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Train a federation on this machine through both phases, one hospital held out, and score it. Prints nothing.

    Args:
        data: one folder per hospital, as docs/DATA.md has it; None draws phantom hospitals.
        out: the run's folder; it must not exist yet unless `resume`.
        holdout: the held-out hospital; None for the last by name.
        settings: by dotted key, for example {"phase1.rounds": 10}; docs/CONFIGURATION.md lists them.
        engine: "local" for this process, "ray" for Ray's workers.
        resume: go on with the run in `out`, if there is one.
        observer: is told of each request, answer and step.

    Raises:
        RoiaeError: a setting, the data or the run cannot be used; one message says what to do.
    """
    nested: dict[str, Any] = {}
    for key, value in (settings or {}).items():
        section, _, name = key.rpartition(".")
        of = nested
        for part in section.split(".") if section else ():
            of = of.setdefault(part, {})
        of[name] = value
    place = Path(out)
    asked = Simulation(nested, None if data is None else Path(data), holdout, place, engine, resume)
    run_simulation(asked, Console(quiet=True), observer)
    return Run(place)
