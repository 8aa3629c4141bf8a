"""Frames and models to measure with: no disk, the same every time."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from roiae.config import MinimumConfig, ModelConfig, PrivacyConfig, Role, RunConfig
from roiae.data.phantom import SCANNERS, draw_phantom
from roiae.data.site_data import FrameSet, SiteData
from roiae.method.hardware import resolve
from roiae.method.model import Autoencoder
from roiae.site.answers import Site
from roiae.wire.contract import TrainTask

PHASE1 = {"ms_ssim": 1.0}
PHASE2 = {"ms_ssim": 1.0, "roi_l1": 0.4, "roi_edge": 0.7}


def frame_set(frames: int, side: int = 256) -> FrameSet:
    """Smooth frames with a ROI of the size that a nuchal translucency has."""
    coarse = torch.rand(frames, 1, side // 4, side // 4, generator=torch.Generator().manual_seed(frames))
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)[:, 0]
    corner = np.random.default_rng(0).integers(0, side - side // 3, (frames, 2))
    rois = np.concatenate([corner, corner + np.array([side // 3, side // 14])], axis=1)
    subjects = tuple(f"S{index}" for index in range(frames))
    return FrameSet(
        (smooth * 255).to(torch.uint8).numpy(), rois, subjects, np.full((frames, 2), np.nan), np.ones((frames, 2))
    )


def mapped(file: Path, frames: int) -> FrameSet:
    """Frames in a memory-mapped file, as the cache keeps them; every hundredth is the same."""
    few = frame_set(100)
    with file.open("wb") as out:
        for _ in range(frames // len(few)):
            few.frames.tofile(out)
    many = np.memmap(file, np.uint8, "r", shape=(frames, *few.frames.shape[1:]))
    times = frames // len(few)
    return FrameSet(
        many,
        np.tile(few.rois, (times, 1)),
        few.subjects * times,
        np.tile(few.mm_per_px, (times, 1)),
        np.tile(few.stored_px, (times, 1)),
    )


def phantoms(frames: int, first: int) -> FrameSet:
    """Frames that a network learns from: a site sends nothing whose gradient has died, as smooth noise lets it."""
    drawn = [draw_phantom(SCANNERS[0], first + number) for number in range(frames)]
    subjects = tuple(f"S{first + number}" for number in range(frames))
    shown, rois = np.stack([one.frame for one in drawn]), np.array([one.roi for one in drawn])
    return FrameSet(shown, rois, subjects, np.full((frames, 2), drawn[0].mm_per_px), np.ones((frames, 2)))


def site(name: str, train: int, validation: int, state: Path) -> Site:
    data = SiteData(phantoms(train, 0), phantoms(validation, train), (), fingerprint=name)
    return Site(name, Role.SOURCE, data, PrivacyConfig(), state / name, minimum=MinimumConfig(frames=1, subjects=1))


def network(side: int = 256) -> Autoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Autoencoder(**ModelConfig(image_size=side).model_dump())


def train_task(weights: dict[str, float], batch_size: int, side: int = 256) -> TrainTask:
    """The default settings, with what `auto` means on this machine."""
    train = resolve(RunConfig()).train
    settings = train.model_dump(exclude={"device", "batch_size", "learning_rate"})
    return TrainTask(
        **settings,
        model=ModelConfig(image_size=side),
        weights=weights,
        batch_size=batch_size,
        learning_rate=1e-4,
        local_epochs=1,
        proximal_mu=0.0,
        seed=0,
        round=1,
    )
