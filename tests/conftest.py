"""Small hospitals for every test: arrays in memory for the logic, phantom folders for what reads a disk."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: small tests on shared cores, and equal bytes everywhere

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from roiae.config import MinimumConfig, ModelConfig, PrivacyConfig, Role, RunConfig, build_config, merge, parse_override
from roiae.data.phantom import SCANNERS, write_hospital
from roiae.data.site_data import FrameSet, SiteData
from roiae.method.model import Autoencoder
from roiae.method.training import arrays_of
from roiae.site.answers import Site
from roiae.wire.contract import Arrays, TrainTask
from roiae_server.cli import main

Arguments = Callable[..., list[str]]
Command = Callable[[list[str]], tuple[int, str, str]]  # arguments: exit code, standard output, standard error
pytest_plugins = ["tests.files"]
SIDE = 192
MODEL = ModelConfig(image_size=SIDE, width=16, latent_dim=8)
TINY = {
    "model.image_size": SIDE,
    "model.width": 16,
    "model.latent_dim": 8,
    "phase1.rounds": 2,
    "phase1.local_epochs": 1,
    "phase2.rounds": 2,
    "phase2.local_epochs": 1,
    "train.batch_size": 8,
    "train.threads": 1,
    "train.learning_rate": 1e-4,  # of eight latent numbers more training leaves under four
    "privacy.min_subjects": 10,
    "privacy.min_scored_frames": 2,
    "minimum.frames": 1,
    "minimum.subjects": 1,
    "shift.k": 20,
}
ANY = MinimumConfig(frames=1, subjects=1)  # of frames and subjects behind what leaves
REAL_FRAMES = Path(__file__).parents[2] / "shared" / "data" / "nt"
CASES = Path(__file__).parents[2] / "shared" / "cases"  # inputs that were once read wrong


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI everything that a test may need is there, but for a GPU: any other skip is a failure."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [report for report in reporter.stats.get("skipped", []) if "gpu" not in report.keywords]
    if os.environ.get("CI") and skipped:
        reporter.write_line("skipped in CI: " + ", ".join(report.nodeid for report in skipped), red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def frame_set() -> Callable[[int, int], FrameSet]:
    """Smooth random frames with a ROI each, in memory: (number of frames, seed)."""

    def make(frames: int, seed: int) -> FrameSet:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(frames, 1, 24, 24, generator=generator)
        smooth = F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
        rng = np.random.default_rng(seed)
        corner = rng.integers(0, SIDE - 60, (frames, 2))
        rois = np.concatenate([corner, corner + rng.integers(8, 60, (frames, 2))], axis=1)
        return FrameSet(
            (smooth[:, 0] * 255).to(torch.uint8).numpy(),
            rois,
            tuple(f"S{seed}-{index}" for index in range(frames)),
            np.full((frames, 2), np.nan),
            np.full((frames, 2), 2.0),
        )

    return make


@pytest.fixture
def make_site(frame_set: Callable[[int, int], FrameSet], tmp_path: Path) -> Callable[..., Site]:
    """A site in memory: (name, training frames, validation frames, role, minimum behind what leaves)."""

    def make(
        name: str,
        train: int = 6,
        validation: int = 3,
        role: Role = Role.SOURCE,
        minimum: MinimumConfig = ANY,
    ) -> Site:
        seed = sum(name.encode())
        data = SiteData(frame_set(train, seed), frame_set(validation, seed + 1), (), fingerprint=name)
        return Site(name, role, data, PrivacyConfig(), tmp_path / "sites" / name, minimum=minimum)

    return make


@pytest.fixture
def initial() -> Arrays:
    """The tiny model's untrained weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return arrays_of(Autoencoder(**MODEL.model_dump()))


@pytest.fixture
def train_task() -> TrainTask:
    """One plain step on everything: SGD, float32, no clipping, no augmentation."""
    return TrainTask(
        model=MODEL,
        batch_size=64,
        threads=1,
        weights={"ms_ssim": 1.0},
        learning_rate=0.1,
        local_epochs=1,
        optimizer="sgd",
        weight_decay=0.0,
        clip_norm=None,
        proximal_mu=0.0,
        augment=False,
        precision="float32",
        seed=0,
        round=1,
    )


@pytest.fixture
def recipe(train_task: TrainTask) -> TrainTask:
    """One round as a hospital allows it: AdamW, clipped, augmented, in batches of four."""
    allowed = {"batch_size": 4, "learning_rate": 1e-3, "optimizer": "adamw", "clip_norm": 1.0, "augment": True}
    return train_task.model_copy(update=allowed)


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None], list[str]], int]:
    """Runs a command's main in this process with these arguments; returns its exit code."""

    def run(main: Callable[[], None], arguments: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", arguments)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return int(ended.value.code or 0)

    return run


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phantom hospitals of sixteen subjects, as folders; no test changes them."""
    folder = tmp_path_factory.mktemp("hospitals")
    for index, (name, scanner) in enumerate(zip(("alpha", "beta", "gamma"), SCANNERS, strict=False)):
        write_hospital(folder / name, scanner, subjects=16, seed=index)
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny_run(
    hospitals: Path, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[str]]]:
    """Arguments of `roiae-server simulate` for a run of seconds: (out, **settings)."""
    monkeypatch.setenv("ROIAE_CACHE", str(cache_dir))

    def arguments(out: str = "run", data: Path = hospitals, **settings: object) -> list[str]:
        sets = {**TINY, **{key.replace("__", "."): value for key, value in settings.items()}}
        flags = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
        return ["simulate", "--data", str(data), "--out", str(tmp_path / out), *flags]

    yield arguments


@pytest.fixture
def config() -> RunConfig:
    """A run of five rounds on one thread."""
    sets = ["phase1.rounds=3", "phase2.rounds=2", "train.threads=1", "train.precision=float32"]
    return build_config(merge(*map(parse_override, sets)))


@pytest.fixture
def roiae_server(run_main: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> Command:
    """The command in this process: (exit code, standard output, standard error)."""

    def run(arguments: list[str]) -> tuple[int, str, str]:
        return run_main(main, ["roiae-server", *arguments]), *capfd.readouterr()

    return run


@pytest.fixture
def finished(tiny_run: Arguments, roiae_server: Command, cache_dir: Path, tmp_path: Path) -> Path:
    """A finished run; made once, copied for each test."""
    kept = cache_dir / "finished"
    if not kept.exists():
        code, _, err = roiae_server(tiny_run("run"))
        assert code == 0, err
        shutil.copytree(tmp_path / "run", kept)
    else:
        shutil.copytree(kept, tmp_path / "run")
    return tmp_path / "run"
