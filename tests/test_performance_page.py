"""docs/PERFORMANCE.md shows what bench/results.json holds."""

import json
from pathlib import Path

import pytest
import torch
from bench import samples
from bench.plain import PlainLoss
from bench.report import markdown, profile_png

from roiae.method.losses import phase_loss

ROOT = Path(__file__).parents[1]


def test_the_pages_tables_are_those_of_the_results() -> None:
    results = json.loads((ROOT / "bench" / "results.json").read_text())

    assert markdown(results) in (ROOT / "docs" / "PERFORMANCE.md").read_text()


def test_the_results_have_their_stable_keys() -> None:
    results = json.loads((ROOT / "bench" / "results.json").read_text())

    assert {"phase1_speedup", "phase2_speedup", "phase1_over_network", "phase2_over_network"} <= set(results["step"])
    assert {"overhead", "memory_64_over_4"} <= set(results["federation"])
    assert profile_png(results).startswith(b"\x89PNG")


@pytest.mark.parametrize("weights", [samples.PHASE1, samples.PHASE2], ids=["phase 1", "phase 2"])
def test_the_plain_loop_computes_the_same_loss(weights: dict[str, float]) -> None:
    data = samples.frame_set(3)
    frames = torch.from_numpy(data.frames)[:, None] / 255
    recon, rois = 0.8 * frames + 0.1, torch.from_numpy(data.rois)

    ours, _ = phase_loss(weights, recon, frames, rois)

    torch.testing.assert_close(ours, PlainLoss(weights)(recon, frames, rois), atol=1e-5, rtol=0)
