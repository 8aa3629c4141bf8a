"""A hospital over real frames, asked as its coordinator asks: through the responder, by signed requests."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import roiae.method.training as training_module
from roiae.config import PrivacyConfig, Role
from roiae.data.augment import augment
from roiae.data.site_data import FrameSet, SiteData
from roiae.errors import Reason
from roiae.method.training import round_seed, shuffled_batches
from roiae.site.answers import NO_GUARD, Site
from roiae.wire.contract import Arrays, EvaluateTask, Reply, Task, TrainTask
from roiae_client.answering.ledger import LEDGER, Ledger
from roiae_client.answering.responder import Responder
from roiae_client.folder.site_config import Limits, SiteConfig
from roiae_client.recipe.weights_history import WeightsHistory
from tests.attacks.crafted import MODEL
from tests.conftest import REAL_FRAMES
from tests.signing import TRUSTED, new_key, signed

NAME = "alpha"
SITES = ("ge_a", "ge_b", "philips")
KEY = new_key()
# Nothing is bounded that a hospital could loosen.
NO_RECIPE = Limits(
    optimizers=frozenset({"adamw", "sgd"}),
    max_learning_rate=1e9,
    min_batch_size=1,
    max_clip_norm=1e30,
    require_augmentation=False,
    min_frames=1,
    min_subjects=1,
)


class Hospital:
    """One responder, its ledger and its history in a folder of their own."""

    def __init__(self, folder: Path, data: SiteData, of: str, limits: Limits | None = None) -> None:
        folder.mkdir(parents=True)
        limits = limits or Limits()
        config = SiteConfig(name=NAME, data=REAL_FRAMES / of, limits=limits, threads=1, device="cpu")
        site = Site(NAME, Role.SOURCE, data, PrivacyConfig(), folder / "state")
        self._ledger = Ledger(folder / LEDGER)
        self._desk = Responder(config, KEY, TRUSTED, self._ledger, lambda side, config: site)

    def ask(self, task: Task, arrays: Arrays, run: str = "run") -> Reply | Reason:
        kind = "train" if isinstance(task, TrainTask) else "evaluate"
        text = task.model_dump_json()
        asked = signed(kind, text, arrays, site=NAME, run=run, request=uuid.uuid4().hex)
        envelope, _, reply = self._desk.answer(kind, asked, text, arrays)
        return reply or Reason(envelope.reason)

    def close(self) -> None:
        self._ledger.close()


def without_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are trained on wherever they come from."""
    monkeypatch.setattr(WeightsHistory, "admit", lambda self, received: NO_GUARD)


def without_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of any size train."""
    monkeypatch.setattr(training_module, "MIN_GRADIENT", 0.0)
    monkeypatch.setattr(training_module, "EPSILON", 1e-8)


def open_data(of: str, cache_dir: Path) -> SiteData:
    return SiteData.open(REAL_FRAMES / of, image_size=MODEL.image_size, cache_dir=cache_dir)


def training(seed: int, **changes: Any) -> TrainTask:
    """As much as the limits as shipped give a coordinator, and one pass over the frames."""
    fields: dict[str, Any] = {
        "model": MODEL, "batch_size": 4, "threads": 1, "weights": {"ms_ssim": 1.0}, "learning_rate": 0.003,
        "local_epochs": 1, "optimizer": "adamw", "weight_decay": 0.0, "clip_norm": 1.0, "proximal_mu": 0.0,
        "augment": True, "precision": "float32", "seed": seed, "round": 1,
    }  # fmt: skip
    return TrainTask(**(fields | changes))


def evaluation() -> EvaluateTask:
    return EvaluateTask(model=MODEL, batch_size=16, threads=1)


def seen(data: FrameSet, task: TrainTask) -> NDArray[np.float32]:
    """The frames of a round as they are trained on, in that order: [frames, S, S]."""
    return np.concatenate(list(_batches(data, task)))


def _batches(data: FrameSet, task: TrainTask) -> Iterator[NDArray[np.float32]]:
    generator = torch.Generator().manual_seed(round_seed(task.seed, NAME, task.round))
    for _ in range(task.local_epochs):
        for frames, rois in shuffled_batches(data, task.batch_size, generator):
            shown = augment(frames, rois, generator)[0] if task.augment else frames
            yield shown[:, 0].numpy()


def update_of(reply: Reply, sent: Arrays, name: str) -> NDArray[np.float64]:
    return np.asarray(reply.arrays[name], np.float64) - sent[name]
