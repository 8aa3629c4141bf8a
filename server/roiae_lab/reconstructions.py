"""`reconstructions.png`: the same frames before and after each phase. For simulation only, where frames are the
reader's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from roiae.config import ModelConfig, Role
from roiae.method.model import Autoencoder
from roiae.method.training import load_arrays
from roiae.site.answers import Site
from roiae.wire.contract import Arrays
from roiae_server.report.figures import png

MARGIN = 8  # px round the ROI in the zoomed row


def reconstructions_png(sites: Sequence[Site], model: ModelConfig, weights: Mapping[str, Arrays]) -> bytes:
    """For every site one validation frame and its reconstructions, and under them the ROI enlarged.

    Args:
        weights: a model's arrays by its name, in the order of the columns.
    """
    figure = Figure(figsize=(3.1 * (1 + len(weights)), 4.4 * len(sites)), layout="constrained")
    grid: Any = figure.subplots(2 * len(sites), 1 + len(weights), squeeze=False, height_ratios=[3, 1] * len(sites))
    for row, site in enumerate(sites):
        frame, roi, recons = _reconstruct(site, model, weights)
        for column, (name, image) in enumerate({"frame": frame, **recons}.items()):
            whole, zoom = grid[2 * row][column], grid[2 * row + 1][column]
            _show(whole, image, f"{site.name}{' (held out)' if site.role is Role.HELD_OUT else ''}: {name}")
            x0, y0, x1, y1 = roi
            whole.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="#ffcc33"))
            _show(zoom, image[max(y0 - MARGIN, 0) : y1 + MARGIN, max(x0 - MARGIN, 0) : x1 + MARGIN], "")
    return png(figure)


@torch.no_grad()
def _reconstruct(
    site: Site, config: ModelConfig, weights: Mapping[str, Arrays]
) -> tuple[NDArray[Any], tuple[int, ...], dict[str, NDArray[Any]]]:
    """The validation frame with the median ROI height, its ROI, and every model's reconstruction of it."""
    rois = site.data.validation.rois
    chosen = np.argsort(rois[:, 3] - rois[:, 1], kind="stable")[len(rois) // 2]
    frames, roi = site.data.validation.batch(np.array([chosen]))
    model = Autoencoder(**config.model_dump()).eval()
    recons = {}
    for name, arrays in weights.items():
        load_arrays(model, arrays)
        recons[name] = model(frames)[0, 0].numpy()
    return frames[0, 0].numpy(), tuple(roi[0].tolist()), recons


def _show(axes: Any, image: NDArray[Any], title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
