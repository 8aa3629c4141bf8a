"""Whether a frame was trained on: no mechanism hides it yet, so this is how much it shows."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from roiae.data.site_data import FrameSet, SiteData
from roiae.method.model import Autoencoder
from roiae.method.ms_ssim import ms_ssim
from roiae.method.training import load_arrays, ordered_batches
from roiae.wire.contract import Arrays
from tests.attacks.crafted import MODEL
from tests.attacks.hospital import SITES
from tests.attacks.training import trained

pytestmark = [pytest.mark.real_frames, pytest.mark.attacks, pytest.mark.timeout(3600)]

Numbers = NDArray[np.float64]
RESAMPLES = 2000


@torch.no_grad()
def losses(arrays: Arrays, data: FrameSet) -> Numbers:
    """1 − MS-SSIM of each frame."""
    model = Autoencoder(**MODEL.model_dump())
    load_arrays(model, arrays)
    model.eval()
    batches = ordered_batches(data, 16)
    return np.concatenate([1 - ms_ssim(model(frames), frames).double().numpy() for frames, _ in batches])


def auc(members: Numbers, others: Numbers) -> float:
    """The chance that a member scores above another frame; 0.5 tells nothing."""
    return float(np.mean(np.sign(members[:, None] - others[None]) / 2 + 0.5))


def interval(members: Numbers, others: Numbers) -> tuple[float, float]:
    """95 % of the bootstrap over frames."""
    generator = np.random.default_rng(0)
    found = [
        auc(generator.choice(members, len(members)), generator.choice(others, len(others))) for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def test_how_well_a_frame_is_told_from_one_that_was_not_trained_on(
    real_sites: dict[str, SiteData], honest: Arrays, record: Callable[..., None]
) -> None:
    """By the errors of the federated model, and by what one hospital's update mends of them."""
    scores: dict[str, list[list[Numbers]]] = {"model": [[], []], "update": [[], []]}
    for of in SITES:
        data = real_sites[of]
        updated = trained(honest, data.train, 99, of)
        for part, split in enumerate((data.train, data.validation)):
            before = losses(honest, split)
            scores["model"][part].append(-before)
            scores["update"][part].append(before - losses(updated, split))
    for source, (members, others) in scores.items():
        two = np.concatenate(members), np.concatenate(others)
        if auc(*two) < 0.5:  # a step from a good model makes what it knows best worse, which tells as much
            two = -two[0], -two[1]
        record(f"membership: {source}", auc=auc(*two), interval=interval(*two))
        assert auc(*two) < 0.99  # of which docs/PRIVACY.md would have to speak otherwise
