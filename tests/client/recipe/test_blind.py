import numpy as np
import pytest
import torch

from roiae.method.ms_ssim import ms_ssim
from roiae.site.answers import Site
from roiae_client.recipe.blind import blind_ms_ssim


def test_one_picture_for_all_is_the_mean_training_frame(make_site: object) -> None:
    site: Site = make_site("alpha", train=20, validation=18)  # type: ignore[operator]
    frames = torch.from_numpy(np.array(site.data.validation.frames)).float()[:, None] / 255
    mean = torch.from_numpy(np.array(site.data.train.frames)).double().mean(dim=0) / 255

    assert blind_ms_ssim(site.data) == pytest.approx(
        float(ms_ssim(mean.float().expand_as(frames), frames).mean()), rel=1e-4
    )
