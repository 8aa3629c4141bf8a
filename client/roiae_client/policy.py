"""What this site allows, whatever a coordinator asks: every bound is in its own `site.yaml`."""

import math

import numpy as np
import torch

from roiae.contract import Arrays, Request, Task, TrainTask
from roiae.data.site_data import SiteData
from roiae.errors import Reason, RefusalError
from roiae.model import Autoencoder
from roiae_client.site_config import Limits


def check_task(task: Task, limits: Limits) -> None:
    """
    Raises:
        RefusalError: `not-allowed` for a request, a number of local epochs, or a size of model or batch that this site
            does not allow.
    """
    kind = Request(task, {}).kind
    if kind not in limits.requests:
        raise _not_allowed(f"a {kind} request", "requests", sorted(limits.requests))
    if isinstance(task, TrainTask) and task.local_epochs > limits.max_local_epochs:
        raise _not_allowed(f"{task.local_epochs} local epochs", "max_local_epochs", limits.max_local_epochs)
    if task.batch_size > limits.max_batch_size:
        raise _not_allowed(f"a batch of {task.batch_size} frames", "max_batch_size", limits.max_batch_size)
    side = task.model.image_size
    if side > limits.max_image_size:
        raise _not_allowed(f"frames of {side}×{side} px", "max_image_size", limits.max_image_size)
    with torch.device("meta"):  # counts without a byte of memory
        parameters = sum(parameter.numel() for parameter in Autoencoder(**task.model.model_dump()).parameters())
    if parameters > limits.max_parameters:
        raise _not_allowed(f"a model of {parameters} parameters", "max_parameters", limits.max_parameters)


def check_data(task: Task, data: SiteData, limits: Limits) -> None:
    """Enough frames, subjects and steps stand behind an update.

    Raises:
        RefusalError: `no-frames`, `few-subjects`, or `not-allowed` for too few optimiser steps.
    """
    if not isinstance(task, TrainTask):
        return
    frames, subjects = len(data.train), len(set(data.train.subjects))
    if frames < limits.min_frames:
        message = f"{frames} training frames; limits.min_frames is {limits.min_frames}"
        raise RefusalError(Reason.NO_FRAMES, message)
    if subjects < limits.min_subjects:
        message = f"{subjects} training subjects; limits.min_subjects is {limits.min_subjects}"
        raise RefusalError(Reason.FEW_SUBJECTS, message)
    steps = task.local_epochs * math.ceil(frames / task.batch_size)
    if steps < limits.min_local_steps:
        raise _not_allowed(f"an update of {steps} local steps", "min_local_steps", limits.min_local_steps)


def clip_update(sent: Arrays, trained: Arrays, max_norm: float | None) -> tuple[Arrays, float]:
    """Arrays whose update, the difference to what was sent, is no longer than the bound over all arrays together.

    Returns:
        The arrays, the very ones that were trained where their update is short enough, and its L2 norm before.

    Raises:
        RefusalError: `not-finite` where training ended in NaN or infinity.
    """
    update = {name: array.astype(np.float64) - sent[name] for name, array in trained.items()}
    norm = math.sqrt(sum(float(np.square(difference).sum()) for difference in update.values()))
    if not math.isfinite(norm):
        raise RefusalError(Reason.NOT_FINITE, "the weights after training hold NaN or infinity")
    if max_norm is None or norm <= max_norm:
        return trained, norm
    scale = max_norm / norm
    clipped = {name: (sent[name] + scale * update[name]).astype(array.dtype) for name, array in trained.items()}
    return clipped, norm


def _not_allowed(asked: str, limit: str, bound: object) -> RefusalError:
    return RefusalError(Reason.NOT_ALLOWED, f"asked for {asked}; this site's limits.{limit} is {bound}")
