"""What a model reaches at this site that does not look at the frame before it: one picture for all."""

import numpy as np
import torch

from roiae.data.site_data import SiteData
from roiae.method.ms_ssim import ms_ssim

_AT_ONCE = 16  # frames


def blind_ms_ssim(data: SiteData) -> float:
    """Mean MS-SSIM of the validation frames with the mean training frame."""
    train, validation = data.train.frames, data.validation.frames
    total = sum(train[at : at + _AT_ONCE].sum(axis=0, dtype=np.float64) for at in range(0, len(train), _AT_ONCE))
    picture = torch.from_numpy(np.asarray(total / len(train) / 255)).float()
    found = 0.0
    for at in range(0, len(validation), _AT_ONCE):
        frames = torch.from_numpy(np.array(validation[at : at + _AT_ONCE])).float()[:, None] / 255
        found += float(ms_ssim(picture.expand_as(frames), frames).double().sum())
    return found / len(validation)
