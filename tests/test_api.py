"""The public face of the library: its names and signatures change on purpose alone, and its examples are true."""

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import roiae
import roiae_lab
from roiae.errors import RunFolderError
from tests.api_page import PAGE, page
from tests.conftest import Arguments

EXAMPLE = Path(__file__).parents[1] / "docs" / "example.py"
DOCUMENTED = ("calibrate", "ms_ssim", "phase_loss", "quality", "Autoencoder")


def test_the_names_are_those_that_were_promised() -> None:
    assert roiae.__all__ == [
        "Autoencoder", "Calibration", "FrameSet", "Quality", "RoiaeError", "SiteData", "calibrate", "load", "ms_ssim",
        "open_site", "phase_loss", "quality",
    ]  # fmt: skip
    assert roiae_lab.__all__ == ["Run", "simulate"]


def test_the_signatures_are_those_that_were_promised() -> None:
    assert [str(inspect.signature(of)) for of in (roiae.ms_ssim, roiae.quality)] == [
        "(recon: torch.Tensor, frame: torch.Tensor) -> torch.Tensor",
        "(recon: torch.Tensor, frame: torch.Tensor, roi: torch.Tensor) -> roiae.method.metrics.Quality",
    ]
    assert list(inspect.signature(roiae.phase_loss).parameters) == ["weights", "recon", "frame", "roi"]
    assert list(inspect.signature(roiae.calibrate).parameters) == ["magnitudes", "frames", "max_ratio"]
    assert list(inspect.signature(roiae.load).parameters) == ["path"]
    assert list(inspect.signature(roiae.open_site).parameters) == ["folder", "image_size", "cache_dir"]
    assert list(inspect.signature(roiae.Autoencoder).parameters) == ["image_size", "width", "latent_dim"]
    assert list(inspect.signature(roiae_lab.simulate).parameters) == [
        "data", "out", "holdout", "settings", "engine", "resume", "observer",
    ]  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    of = getattr(roiae, name)
    module = importlib.import_module(of.__module__)
    (found,) = [one for one in doctest.DocTestFinder(recurse=False).find(of, name, module=module) if one.examples]

    assert doctest.DocTestRunner().run(found).failed == 0


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    for package in (roiae, roiae_lab):
        with pytest.raises(AttributeError, match="nonsense"):
            _ = package.nonsense


def test_the_page_says_what_the_docstrings_say() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.api_page`"


def test_a_simulation_prints_nothing_and_its_run_tells_all(
    tiny_run: Arguments, hospitals: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    typed = tiny_run()
    given = dict(part.split("=") for part in typed if "=" in part)
    settings = {key: float(value) if "." in value else int(value) for key, value in given.items()}

    run = roiae_lab.simulate(hospitals, out=tmp_path / "run", settings=settings)

    assert capfd.readouterr() == ("", "")
    assert set(run.quality) == {"phase1", "phase2", "control"}
    assert set(run.weights) == {"ms_ssim", "roi_l1", "roi_edge"}
    assert run.shift["holdout"] == "gamma"
    assert run.settings["phase1"]["rounds"] == 2
    assert run.rounds[0].site == "alpha"
    assert run.report.is_file()
    assert run.model("phase1").encode is not None
    assert roiae_lab.simulate(hospitals, out=tmp_path / "run", resume=True) == run


def test_a_run_that_is_gone_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run is there"):
        _ = roiae_lab.Run(tmp_path).quality


@pytest.mark.slow
def test_the_example_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, str(EXAMPLE)], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert "AUROC" in ended.stdout
