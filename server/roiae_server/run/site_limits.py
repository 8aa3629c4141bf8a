"""What a hospital would refuse of a run, from the limits that its handshake tells: known before the first round."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from roiae.config import Role, RunConfig
from roiae.method.calibration import EQUAL, WEIGHT_RANGE
from roiae_server.run.plan import phase_of, plan

_LIMITS = "limits."


def refused(config: RunConfig, role: Role, told: Mapping[str, float]) -> list[str]:
    """A sentence for each thing that the run would ask of a site in vain; none where it would answer all.

    How many frames a site has, and how much memory, only the site itself knows.

    Args:
        told: the metrics of its answer to `query.identify`.
    """
    limits = {name.removeprefix(_LIMITS): value for name, value in told.items() if name.startswith(_LIMITS)}
    return [*_kinds(config, role, limits), *(_recipe(config, limits) if role is Role.SOURCE else ())]


def _kinds(config: RunConfig, role: Role, limits: Mapping[str, float]) -> Iterator[str]:
    asked = Counter("train" if step.trains else "evaluate" for step in plan(config) if step.name != "shift")
    if role is Role.HELD_OUT:
        del asked["train"]
    for kind, count in asked.items():
        if f"requests.{kind}" not in limits:
            yield f"it answers no {kind} request (limits.requests)"
        elif count > limits.get(f"max_requests.{kind}", math.inf):
            most = limits[f"max_requests.{kind}"]
            yield f"the run makes {count} {kind} requests, and it answers {most:g} (limits.max_requests.{kind})"


def _recipe(config: RunConfig, limits: Mapping[str, float]) -> Iterator[str]:
    train = config.train
    if f"optimizers.{train.optimizer}" not in limits:
        yield f"train.optimizer is {train.optimizer}, which it does not allow (limits.optimizers)"
    passes = sum(phase_of(step.arm, config).local_epochs for step in plan(config) if step.trains)
    epochs = max(config.phase1.local_epochs, config.phase2.local_epochs)
    for what, asked, limit in (
        ("train.learning_rate", train.learning_rate, "max_learning_rate"),
        ("train.clip_norm", math.inf if train.clip_norm is None else train.clip_norm, "max_clip_norm"),
        ("local_epochs", epochs, "max_local_epochs"),
        ("passes over the data in all", passes, "max_passes"),
    ):
        if asked > limits.get(limit, math.inf):
            yield f"{what}: {asked:g}, where it allows {limits[limit]:g} (limits.{limit})"
    if train.batch_size < limits.get("min_batch_size", 0):
        least = limits["min_batch_size"]
        yield f"train.batch_size: {train.batch_size}, where it allows {least:g} at least (limits.min_batch_size)"
    if limits.get("require_augmentation") and not train.augment:
        yield "train.augment is false, and it trains on augmented frames alone (limits.require_augmentation)"
    low, high = WEIGHT_RANGE
    weights = config.phase2.weights or EQUAL
    if not all(low <= weight <= high for weight in weights.values()) or max(weights.values()) < 1:
        yield f"phase2.weights: {weights}, where it allows {low:g} to {high:g}, and one of them at 1 or more"
