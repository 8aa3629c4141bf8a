"""Results by hand: two sources and a held-out hospital, whose figures a test sets as it likes."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from roiae.config import Role
from roiae_lab.reproduce.arms import HAND_PICKED, METHOD
from roiae_lab.reproduce.results import Result

MakeResult = Callable[..., Result]

ROLES = {"a": Role.SOURCE, "b": Role.SOURCE, "c": Role.HELD_OUT}
WEIGHTS = {"ms_ssim": 1.0, "roi_l1": 0.25, "roi_edge": 0.5}
FRAMES = {"a": 30, "b": 10, "c": 50}


@pytest.fixture
def make_result() -> MakeResult:
    """A result in which every hospital has the same figures of a model: (seed, shift, model=figures or by hospital)."""

    def make(seed: int = 0, shift: Mapping[str, Mapping[str, float]] | None = None, **models: object) -> Result:
        quality = {name.replace("__", "/"): _by_site(figures) for name, figures in models.items()}
        nothing: Mapping[str, Mapping[str, float]] = {"phase1": {}, "phase2": {}}
        steps = dict.fromkeys(quality, 100)
        weights = {name: of["phase2"]["weights"] for name, of in HAND_PICKED.items() if name in quality}
        weights |= {METHOD: WEIGHTS}
        return Result("c", seed, ROLES, quality, steps, weights, shift=shift or nothing)

    return make


def shifted(auroc: float, low: float = 0.6) -> dict[str, dict[str, float]]:
    """A shift that bears the paper out, but for its AUROC."""
    interval = {"auroc": auroc, "auroc_low": low, "auroc_high": 1.0}
    return {
        "phase1": {**interval, "max_softmax": 0.556, "entropy": 0.684},
        "phase2": {**interval, "max_softmax": 0.541, "entropy": 0.688},
    }


@pytest.fixture
def whole(make_result: MakeResult) -> MakeResult:
    """A result with every arm, in which each claim holds: (seed, method=figures, shift, further or other models)."""

    def make(seed: int = 0, **given: Any) -> Result:
        better = scores(psnr=20.5, roi_mae=0.08, roi_edge_mae=0.16)
        models: dict[str, Any] = dict.fromkeys(["phase1", "control", *HAND_PICKED, "alone/a", "alone/b"], scores())
        models |= {"method": better, "pooled": better}
        models |= {"other-roi/control": scores(), "other-roi/method": better}
        return make_result(seed, **{"shift": shifted(0.9999), **models, **given})

    return make


def scores(
    psnr: float = 20.0, ms_ssim: float = 0.5, roi_mae: float = 0.1, roi_edge_mae: float = 0.2
) -> dict[str, float]:
    return {"psnr": psnr, "ms_ssim": ms_ssim, "roi_mae": roi_mae, "roi_edge_mae": roi_edge_mae}


def _by_site(figures: object) -> dict[str, dict[str, float]]:
    assert isinstance(figures, dict)
    by_site = figures if set(figures) == set(ROLES) else dict.fromkeys(ROLES, figures)
    return {site: {**of, "frames": float(FRAMES[site])} for site, of in by_site.items()}
