"""`reconstructions.png`: the same frames before and after each phase. For simulation only, where frames are the
reader's own.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from roiae.config import ModelConfig, Role
from roiae.method.model import Autoencoder
from roiae.method.training import load_arrays
from roiae.site.answers import Site
from roiae.wire.contract import Arrays
from roiae_client.report.pictures import panel, side_by_side

TITLE = 18  # px above each picture
GAP = 6  # px between two


def reconstructions_png(sites: Sequence[Site], model: ModelConfig, weights: Mapping[str, Arrays]) -> bytes:
    """For every site one validation frame and its reconstructions, and under them the ROI enlarged.

    Args:
        weights: a model's arrays by its name, in the order of the columns.
    """
    rows = []
    for site in sites:
        frame, roi, recons = _reconstruct(site, model, weights)
        title = f"{site.name}{' (held out)' if site.role is Role.HELD_OUT else ''}"
        panels = {"frame": frame, **recons}
        rows.append(
            side_by_side([_titled(f"{title}: {name}", panel(image, roi, False)) for name, image in panels.items()])
        )
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def _titled(title: str, picture: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (picture.width + GAP, picture.height + TITLE + GAP), "white")
    ImageDraw.Draw(sheet).text((1, 2), title, fill="black", font=ImageFont.load_default(12))
    sheet.paste(picture, (0, TITLE))
    return sheet


@torch.no_grad()
def _reconstruct(
    site: Site, config: ModelConfig, weights: Mapping[str, Arrays]
) -> tuple[NDArray[Any], tuple[int, int, int, int], dict[str, NDArray[Any]]]:
    """The validation frame with the median ROI height, its ROI, and every model's reconstruction of it."""
    rois = site.data.validation.rois
    chosen = np.argsort(rois[:, 3] - rois[:, 1], kind="stable")[len(rois) // 2]
    frames, roi = site.data.validation.batch(np.array([chosen]))
    model = Autoencoder(**config.model_dump()).eval()
    recons = {}
    for name, arrays in weights.items():
        load_arrays(model, arrays)
        recons[name] = model(frames)[0, 0].numpy()
    x0, y0, x1, y1 = roi[0].tolist()
    return frames[0, 0].numpy(), (x0, y0, x1, y1), recons
