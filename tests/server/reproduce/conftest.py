"""Results by hand: two sources and a held-out hospital, whose figures a test sets as it likes."""

from collections.abc import Callable, Mapping

import pytest

from roiae.config import Role
from roiae_server.reproduce.results import Result

MakeResult = Callable[..., Result]

ROLES = {"a": Role.SOURCE, "b": Role.SOURCE, "c": Role.HELD_OUT}
FRAMES = {"a": 30, "b": 10, "c": 50}


@pytest.fixture
def make_result() -> MakeResult:
    """A result in which every hospital has the same figures of a model: (seed, shift, model=figures or by hospital)."""

    def make(seed: int = 0, shift: Mapping[str, Mapping[str, float]] | None = None, **models: object) -> Result:
        quality = {name.replace("__", "/"): _by_site(figures) for name, figures in models.items()}
        nothing: Mapping[str, Mapping[str, float]] = {"phase1": {}, "phase2": {}}
        steps = dict.fromkeys(quality, 100)
        return Result("c", seed, ROLES, quality, steps, weights={}, shift=shift or nothing)

    return make


def scores(
    psnr: float = 20.0, ms_ssim: float = 0.5, roi_mae: float = 0.1, roi_edge_mae: float = 0.2
) -> dict[str, float]:
    return {"psnr": psnr, "ms_ssim": ms_ssim, "roi_mae": roi_mae, "roi_edge_mae": roi_edge_mae}


def _by_site(figures: object) -> dict[str, dict[str, float]]:
    assert isinstance(figures, dict)
    by_site = figures if set(figures) == set(ROLES) else dict.fromkeys(ROLES, figures)
    return {site: {**of, "frames": float(FRAMES[site])} for site, of in by_site.items()}
