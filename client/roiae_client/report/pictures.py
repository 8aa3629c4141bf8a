"""A frame, its reconstruction and their difference side by side, and under them the ROI enlarged."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from roiae.method.model import Autoencoder
from roiae.method.nt import find_borders
from roiae.method.training import to_device
from roiae_client.report.readings import FrameReading

MARGIN = 6  # px round the ROI where it is enlarged, and between the frame and that
_BOX, _BORDERS = (255, 200, 0), (0, 220, 255)

Panel = NDArray[np.float32]  # [S, S], intensity in [0, 1]


@torch.no_grad()
def picture(model: Autoencoder, reading: FrameReading) -> str:
    """JPEG in base64: frame, reconstruction, difference (middle grey where there is none); the NT's borders dotted."""
    frames, rois = reading.of.batch(np.array([reading.place]))
    moved, _ = to_device((frames, rois), next(model.parameters()).device)
    frame, recon = frames[0, 0].numpy(), model(moved).cpu()[0, 0].numpy()
    x0, y0, x1, y1 = rois[0].tolist()
    difference = panel(0.5 + recon - frame, (x0, y0, x1, y1), dots=False)
    sheet = side_by_side([*(panel(image, (x0, y0, x1, y1), dots=True) for image in (frame, recon)), difference])
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=90)
    return base64.b64encode(stream.getvalue()).decode()


def side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    """Panels of one size in a row."""
    sheet = Image.new("RGB", (sum(one.width for one in panels), panels[0].height))
    for place, one in enumerate(panels):
        sheet.paste(one, (place * one.width, 0))
    return sheet


def panel(image: Panel, box: tuple[int, int, int, int], dots: bool) -> Image.Image:
    """The whole with its ROI, and under it the ROI at the same width.

    Args:
        dots: mark the NT's borders, where they are found.
    """
    x0, y0, x1, y1 = box
    whole = _rgb(image)
    ImageDraw.Draw(whole).rectangle((x0 - 1, y0 - 1, x1, y1), outline=_BOX)
    left, top = max(x0 - MARGIN, 0), max(y0 - MARGIN, 0)
    part = image[top : y1 + MARGIN, left : x1 + MARGIN]
    scale = whole.width / part.shape[1]
    zoom = _rgb(part).resize((whole.width, round(part.shape[0] * scale)), Image.Resampling.BICUBIC)
    found = find_borders(image[y0:y1, x0:x1]) if dots else None
    if found:
        draw = ImageDraw.Draw(zoom)
        for rows in (found.upper, found.lower):
            for x, y in zip((found.columns + x0 - left + 0.5) * scale, (rows + y0 - top + 0.5) * scale, strict=True):
                draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=_BORDERS)
    both = Image.new("RGB", (whole.width, whole.height + MARGIN + zoom.height), "white")
    both.paste(whole, (0, 0))
    both.paste(zoom, (0, whole.height + MARGIN))
    return both


def _rgb(image: Panel) -> Image.Image:
    return Image.fromarray((255 * image.clip(0, 1)).round().astype(np.uint8)).convert("RGB")
