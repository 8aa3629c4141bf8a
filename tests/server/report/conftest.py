"""A finished run as it lies on disk, with round numbers: two sources, one held out, a control, one missed round."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roiae.config import Role, build_config
from roiae.method.losses import TERMS
from roiae.method.metrics import MEASURES
from roiae_server.run.records import Line, participation
from roiae_server.run.run_folder import RunFolder, RunState

MakeRun = Callable[..., RunFolder]
ROLES = {"alpha": Role.SOURCE, "beta": Role.SOURCE, "gamma": Role.HELD_OUT}
FRAMES = {"alpha": 30, "beta": 10, "gamma": 60}
QUALITY = {  # psnr, ms_ssim, roi_mae, roi_edge_mae; the same at every site
    "phase1": (20.0, 0.50, 0.20, 0.40),
    "phase2": (20.1, 0.49, 0.18, 0.30),
    "control": (20.2, 0.51, 0.19, 0.39),
}


NT = {"nt_frames": 8, "nt_px": 0.5, "nt_mm_frames": 4, "nt_mm": 0.125, "nt_one_sided": 1}  # of each site and model


def scored(values: tuple[float, ...], frames: int) -> dict[str, float]:
    return {**dict(zip(MEASURES, values, strict=True)), "frames": float(frames)}


def detected(auroc: float) -> dict[str, Any]:
    ci = {name: [auroc - 0.05, auroc + 0.05] for name in ("auroc", "aupr", "fpr95")}
    return {"auroc": auroc, "aupr": 0.7, "fpr95": 0.3, "ci": ci, "source_frames": 40, "held_out_frames": 60}


def arm_of_shift(auroc: float) -> dict[str, Any]:
    histogram = {"low": 0.0, "high": 0.693, "sources": [30, 10], "held_out": [20, 40]}
    probe = {"accuracy": 0.9, "max_softmax": 0.8, "entropy": 0.4, "strength": 1.0}
    scores = {"alpha": [1.0, 2.0], "beta": [1.5], "gamma": [2.5, 4.0]}
    return {
        "mahalanobis": detected(auroc),
        "knn": detected(auroc),
        "provenance": probe | {"histograms": {"entropy": histogram, "max_softmax": histogram}},
        "scores": {"mahalanobis": scores, "knn": scores},
    }


def line(step: str, round_: int, site: str, reason: str | None = None) -> Line:
    metrics = {f"validation_{name}": value for name, value in scored((10.0 + round_, 0.4, 0.3, 0.5), 1).items()}
    return Line(
        step=step, round=round_, site=site, status="missing" if reason else "aggregated",
        reason=reason, metrics={} if reason else metrics, seconds=None if reason else 1800.0,
        bytes_out=1000, bytes_in=0 if reason else 500,
    )  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """(name of the folder, control, simulated, AUROC of the shift scores)."""

    def make(name: str = "first", control: bool = True, simulated: bool = False, auroc: float = 0.9) -> RunFolder:
        arms = [arm for arm in QUALITY if control or arm != "control"]
        state = RunState(
            sites=ROLES,
            fingerprints={site: site for site in ROLES} if simulated else {},
            versions={"roiae": "0.1.0", "torch": "2.13.0"},
            id="0123abcd",
            status="done",
            contributed={"alpha": 6, "beta": 5},
            quality={arm: {site: scored(QUALITY[arm], FRAMES[site]) | NT for site in ROLES} for arm in arms},
        )
        config = build_config({"control": control, "phase1": {"rounds": 2}, "phase2": {"rounds": 2}})
        run = RunFolder.create(tmp_path / name, config, state)
        lines = [line(arm, round_, site) for arm in arms for round_ in (1, 2) for site in ("alpha", "beta")]
        lines[3] = line("phase1", 2, "beta", "offline")
        run.commit(state, lines, None, {})
        table = participation(ROLES, lines)
        run.write_json("participation.json", {site: row.model_dump() for site, row in table.items()})
        run.write_json("quality.json", state.quality)
        ones = dict.fromkeys(TERMS, 1.0)
        run.write_json(
            "calibration.json",
            {"weights": ones, "magnitudes": {"alpha": ones, "beta": ones}, "frames": {"alpha": 120, "beta": 40},
             "global": ones, "spread": {**ones, "roi_l1": 2.5}},
        )  # fmt: skip
        arm = arm_of_shift(auroc)
        content = {"holdout": "gamma", "sources": ["alpha", "beta"], "left_out": {}, "exchanges": 9}
        run.write_json("shift.json", {**content, "phase1": arm, "phase2": arm})
        return run

    return make
