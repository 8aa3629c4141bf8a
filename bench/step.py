"""A training step beside the plain loop's and beside the network's own forward and backward; and its pieces."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench import plain, samples
from bench.samples import PHASE1, PHASE2
from bench.timing import interleaved, quartiles, ratio
from roiae.data.augment import augment
from roiae.data.site_data import FrameSet
from roiae.method.losses import phase_loss
from roiae.method.training import train_round

STEPS = {4: 16, 16: 4}  # in one timing, by batch; a round has more, and what a round begins with is then less of each


def steps(batch_size: int, repeats: int) -> dict[str, Any]:
    """Speed-ups against the plain loop, and a step over the network's own forward and backward, with quartiles."""
    count = STEPS[batch_size]
    data = samples.frame_set(count * batch_size)
    model = samples.network()
    works: dict[str, Callable[[], object]] = {}
    for phase, weights in (("phase1", PHASE1), ("phase2", PHASE2)):
        task = samples.train_task(weights, batch_size)
        works[f"{phase}_plain"] = partial(plain.train, samples.network(), data, weights, batch_size)
        works[f"{phase}_network"] = partial(_network_alone, model, data, count, task.precision)
        works[phase] = partial(train_round, model, data, task, site="a")
    seconds = interleaved(works, repeats)
    result: dict[str, Any] = {
        f"{name}_ms": quartiles([1e3 * s / count for s in taken]) for name, taken in seconds.items()
    }
    for phase in ("phase1", "phase2"):
        result[f"{phase}_speedup"] = ratio(seconds[f"{phase}_plain"], seconds[phase])
        result[f"{phase}_over_network"] = ratio(seconds[phase], seconds[f"{phase}_network"])
    return result


def _network_alone(model: nn.Module, data: FrameSet, count: int, precision: str) -> None:
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    frames, _ = data.batch(np.arange(len(data) // count))
    for _ in range(count):
        _forward_backward(model, frames, precision)


def pieces(batch_size: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of what a step is made of, ours and the plain loop's."""
    data, model = samples.frame_set(batch_size), samples.network()
    precision = samples.train_task(PHASE1, batch_size).precision
    frames, rois = data.batch(np.arange(batch_size))
    recon = (0.8 * frames + 0.1).clamp(0, 1)
    roi_terms = {name: weight for name, weight in PHASE2.items() if name != "ms_ssim"}

    def gradient(loss: Callable[[Tensor], Tensor]) -> None:
        torch.autograd.grad(loss(given := recon.clone().requires_grad_()), given)

    def plain_network() -> None:
        plain_model.zero_grad()
        out = plain_model(frames)
        out.backward(torch.ones_like(out))

    plain_model = samples.network().train()
    ours = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    theirs = torch.optim.Adam(plain_model.parameters(), lr=1e-5)
    _network_alone(model, data, 1, precision)
    plain_network()
    works: dict[str, Callable[[], object]] = {
        "network, plain": plain_network,
        "network": lambda: _forward_backward(model, frames, precision),
        "MS-SSIM, plain": lambda: gradient(lambda x: plain.PlainLoss(PHASE1)(x, frames, rois)),
        "MS-SSIM": lambda: gradient(lambda x: phase_loss(PHASE1, x, frames, rois)[0]),
        "ROI terms, plain": lambda: gradient(lambda x: plain.PlainLoss(roi_terms)(x, frames, rois)),
        "ROI terms": lambda: gradient(lambda x: phase_loss(roi_terms, x, frames, rois)[0]),
        "optimiser, plain": theirs.step,
        "optimiser": lambda: (nn.utils.clip_grad_norm_(model.parameters(), 1.0), ours.step()),
        "augmentation": lambda: augment(frames, rois, torch.Generator().manual_seed(0)),
    }
    seconds = interleaved(works, repeats)
    return {name: quartiles([1e3 * s for s in taken]) for name, taken in seconds.items()}


def _forward_backward(model: nn.Module, frames: Tensor, precision: str) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        recon = model(frames.contiguous(memory_format=torch.channels_last))
    model.zero_grad(set_to_none=True)
    recon.backward(torch.ones_like(recon))


def image_sizes(repeats: int) -> dict[str, list[float]]:
    """Milliseconds of a phase-2 step on four frames of some sizes."""
    works = {
        str(side): partial(
            train_round,
            samples.network(side),
            samples.frame_set(8, side),
            samples.train_task(PHASE2, 4, side),
            site="a",
        )
        for side in (192, 256, 384, 512)
    }
    return {side: quartiles([1e3 * s / 2 for s in taken]) for side, taken in interleaved(works, repeats).items()}


def frame_counts(batch_size: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of a batch in random order from memory-mapped files of some numbers of frames."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        works = {}
        for frames in (100, 1000, 10_000):
            data = samples.mapped(Path(folder) / str(frames), frames)
            works[str(frames)] = lambda data=data: data.batch(rng.integers(len(data), size=batch_size))
        seconds = interleaved(works, repeats)
    return {frames: quartiles([1e3 * s for s in taken]) for frames, taken in seconds.items()}
