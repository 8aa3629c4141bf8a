"""One site's work on one request: train for a round, evaluate. Nothing is kept between rounds.

Deterministic on a CPU in (run seed, site, round) for a given number of threads and precision: the order of frames and
their augmentation come from a generator of their own, and the optimiser starts afresh.
"""

import hashlib
import math
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roiae.config import ModelConfig
from roiae.data.augment import augment
from roiae.data.site_data import FrameSet
from roiae.method.calibration import gradient_norms
from roiae.method.losses import phase_loss
from roiae.method.metrics import NtAgreement, Quality, nt_readings, quality
from roiae.method.model import Autoencoder
from roiae.method.ms_ssim import ms_ssim
from roiae.wire.contract import Arrays, TrainTask

# AdamW's update is as linear in a gradient far below its epsilon as SGD's, and weights made by hand can keep gradients
# there: one update then shows pixels (docs/PRIVACY.md). So what is small is dropped, far above an epsilon that is
# smaller still. Of honest gradients that is one number in a hundred thousand.
MIN_GRADIENT, EPSILON = 1e-10, 1e-12
# In such weights 29 % of the gradient and more is below QUIET, from the first step on; in honest ones 0.4 % at most.
# An honest network can fall silent in its first round and wake again: in 2 of 84, for 3 of 33 and 7 of 30 steps.
QUIET = 1e-8
_LOOKED_AT = 8  # one step of so many, by chance, so that no weights can be made for those that are not; and the first


@dataclass(frozen=True)
class Training:
    """What one round of local training did."""

    losses: dict[str, float]  # "loss" and each term by name, means over the frames seen
    magnitudes: dict[str, float]  # g[t] = √(mean over steps of ‖∇θ Lt‖²) of each term by name; empty unless asked for
    frames: int  # seen, an epoch counting each once
    seconds: float
    quiet: (
        float  # share of a gradient that is below QUIET: of the first step, or the median of those looked at if larger
    )


def round_seed(seed: int, site: str, round_: int) -> int:
    """A 63-bit seed of its own for each (run seed, site, round)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{site}/{round_}".encode()).digest()[:8], "big") >> 1


def train_round(model: Autoencoder, data: FrameSet, task: TrainTask, *, site: str) -> Training:
    """Train the model in place, on the device it is on, on a site's training split for the task's epochs."""
    generator = torch.Generator().manual_seed(round_seed(task.seed, site, task.round))
    device = device_of(model)
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(model, task)
    parameters = list(model.parameters())
    start = [parameter.detach().clone() for parameter in parameters] if task.proximal_mu else []
    sizes: list[int] = []
    losses, norms, quiet = [], [], []  # of each step, on the device: to read one is to wait for all work before it
    began = time.perf_counter()
    for _ in range(task.local_epochs):
        for batch in shuffled_batches(data, task.batch_size, generator):
            frames, rois = to_device(batch, device)
            if task.augment:
                frames, rois = augment(frames, rois, generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=task.precision == "bfloat16"):
                recon = model(frames.contiguous(memory_format=torch.channels_last))
            loss, terms = phase_loss(task.weights, recon, frames, rois)
            if task.proximal_mu:
                loss = loss + task.proximal_mu / 2 * _squared_distance(parameters, start)
            if task.measure:
                norms.append(gradient_norms(terms.values(), parameters))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if task.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, task.clip_norm, foreach=device.type == "cuda")
            if not sizes or secrets.randbelow(_LOOKED_AT) == 0:
                quiet.append(_quiet_share(parameters))
            _drop_smallest(parameters)
            optimizer.step()
            losses.append(torch.stack([loss, *terms.values()]).detach())
            sizes.append(len(frames))
    means = np.average(torch.stack(losses).cpu().double().numpy(), axis=0, weights=sizes)
    by_name = dict(zip(("loss", *task.weights), means.tolist(), strict=True))
    magnitudes = {}
    if norms:
        of_terms = torch.stack(norms).square().mean(dim=0).sqrt()
        magnitudes = dict(zip(task.weights, of_terms.tolist(), strict=True))
    looked = torch.stack(quiet)
    silent = float(torch.maximum(looked[0], looked.median()))
    return Training(by_name, magnitudes, sum(sizes), time.perf_counter() - began, silent)


def evaluate(model: Autoencoder, data: FrameSet, batch_size: int) -> Quality:
    """Sums of the reconstruction quality over all frames."""
    reconstructed = reconstructions(model, data, batch_size)
    return sum((quality(recon, frames, rois) for _, frames, rois, recon in reconstructed), Quality())


def mean_ms_ssim(model: Autoencoder, data: FrameSet, batch_size: int) -> float:
    """Of the reconstructions of all frames."""
    of_parts = (ms_ssim(recon, frames) for _, frames, _, recon in reconstructions(model, data, batch_size))
    return float(torch.cat(list(of_parts)).double().mean())


def score(model: Autoencoder, data: FrameSet, batch_size: int) -> tuple[Quality, list[tuple[NtAgreement, str]]]:
    """As `evaluate`, and what each reconstruction keeps of the NT, with the frame's subject."""
    total, readings = Quality(), []
    for part, frames, rois, recon in reconstructions(model, data, batch_size):
        total += quality(recon, frames, rois)
        of_part = nt_readings(recon, frames, rois, part.stored_px, part.mm_per_px)
        readings += list(zip(of_part, part.subjects, strict=True))
    return total, readings


@torch.no_grad()
def reconstructions(
    model: Autoencoder, data: FrameSet, batch_size: int
) -> Iterator[tuple[FrameSet, Tensor, Tensor, Tensor]]:
    """Every frame once, in the manifest's order; the network in float32, on the device it is on.

    Yields:
        A part of the set, its frames [B, 1, S, S], ROIs [B, 4] and reconstructions [B, 1, S, S], all on the CPU:
        metrics sum in float64, which Apple's GPUs do not have.
    """
    device = device_of(model)
    model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    firsts = range(0, len(data), batch_size)
    for first, (frames, rois) in zip(firsts, ordered_batches(data, batch_size), strict=True):
        moved, _ = to_device((frames, rois), device)
        recon = model(moved.contiguous(memory_format=torch.channels_last))
        yield data[first : first + batch_size], frames, rois, recon.cpu()


def shuffled_batches(data: FrameSet, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Every frame once, in batches of nearly equal size, so that no small remainder takes a full step."""
    order = torch.randperm(len(data), generator=generator).numpy()
    for indices in np.array_split(order, math.ceil(len(data) / batch_size)):
        yield data.batch(indices)


def ordered_batches(data: FrameSet, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every frame once, in the manifest's order; the last batch may be smaller."""
    for first in range(0, len(data), batch_size):
        yield data.batch(np.arange(first, min(first + batch_size, len(data))))


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def to_device(batch: tuple[Tensor, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Frames and ROIs on the device; on their way while this machine goes on."""
    if device.type == "cpu":
        return batch
    if device.type == "cuda":
        batch = batch[0].pin_memory(), batch[1].pin_memory()
    return batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)


def arrays_of(model: nn.Module) -> Arrays:
    """The model's state by name, float32, copied."""
    return {name: value.detach().cpu().contiguous().numpy().copy() for name, value in model.state_dict().items()}


def initial_arrays(model: ModelConfig, seed: int) -> Arrays:
    """The untrained model's weights, decided by the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return arrays_of(Autoencoder(**model.model_dump()))


def load_arrays(model: nn.Module, arrays: Arrays) -> None:
    """Put arrays of the model's own layout into it."""
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})


def _drop_smallest(parameters: list[nn.Parameter]) -> None:
    """Set gradient numbers up to MIN_GRADIENT to 0."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = F.hardshrink(parameter.grad, MIN_GRADIENT)


def _optimizer(model: nn.Module, task: TrainTask) -> torch.optim.Optimizer:
    if task.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=task.learning_rate)
    return torch.optim.AdamW(
        model.parameters(),
        lr=task.learning_rate,
        weight_decay=task.weight_decay,
        betas=(0.9, 0.99),
        eps=EPSILON,
        fused=True,
    )


def _quiet_share(parameters: list[nn.Parameter]) -> Tensor:
    """Of the gradient's numbers that are below QUIET."""
    below = torch.stack([(p.grad.abs() < QUIET).sum() for p in parameters if p.grad is not None])
    return below.sum() / sum(p.numel() for p in parameters)


def _squared_distance(parameters: list[nn.Parameter], start: list[Tensor]) -> Tensor:
    """‖w − w₀‖² (Li et al. 2020, FedProx)."""
    return torch.stack([(p - p0).square().sum() for p, p0 in zip(parameters, start, strict=True)]).sum()
