"""What is trained beside the method, by the names that `--arms` takes."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from roiae.config import RunConfig, build_config, merge
from roiae.errors import ConfigError

METHOD, ALONE, POOLED, OTHER_ROI = "method", "alone", "pooled", "other-roi"
ALL = "all"

_HAND = (0.3, 3.0)  # of either ROI term beside 1 for MS-SSIM; with equal weights in the middle, a grid of five


def _weights(roi_l1: float, roi_edge: float) -> dict[str, Any]:
    return {"phase2": {"weights": {"ms_ssim": 1.0, "roi_l1": roi_l1, "roi_edge": roi_edge}}}


HAND_PICKED: Mapping[str, Mapping[str, Any]] = {
    "equal": _weights(1.0, 1.0),
    **{f"hand-{l1:g}-{edge:g}": _weights(l1, edge) for l1, edge in product(_HAND, _HAND)},
}

# A phase 2 that begins with the method's phase 1 → settings laid over the method's.
BRANCHES: Mapping[str, Mapping[str, Any]] = {
    **HAND_PICKED,
    "fedprox": {"strategy": {"name": "fedprox"}},
    "fedadam": {"strategy": {"name": "fedadam"}},
    OTHER_ROI: {},
}

# A name of `--arms` → the branches that it stands for.
ARMS: Mapping[str, Sequence[str]] = {
    METHOD: (),
    "equal": ("equal",),
    "hand": tuple(name for name in HAND_PICKED if name != "equal"),
    ALONE: (),
    POOLED: (),
    "fedprox": ("fedprox",),
    "fedadam": ("fedadam",),
    OTHER_ROI: (OTHER_ROI,),
}


def parse_arms(given: Sequence[str]) -> list[str]:
    """Names of `--arms`, repeated or with commas between, in the order of `ARMS`; the method is always among them.

    Raises:
        ConfigError: there is no such arm.
    """
    names = {name.strip() for text in given for name in text.split(",") if name.strip()}
    if unknown := sorted(names - {*ARMS, ALL}):
        raise ConfigError(f"--arms {', '.join(unknown)}: no such arm. There are: {', '.join(ARMS)}, and {ALL}.")
    return [name for name in ARMS if name in names or ALL in names or name == METHOD]


def branches_of(arms: Sequence[str]) -> list[str]:
    return [branch for arm in arms for branch in ARMS[arm]]


def branch_config(config: RunConfig, branch: str) -> RunConfig:
    """The method's configuration with the branch's settings over it, and no control of its own."""
    return _over(config, BRANCHES[branch])


def alone_config(config: RunConfig) -> RunConfig:
    """Of a training without a federation: the method's, with no control."""
    return _over(config, {})


def _over(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    return build_config(merge(config.model_dump(mode="json"), settings, {"control": False}))
