"""Augmentation of a training batch: horizontal flip, shift, mild gain. The ROI moves with its frame."""

import torch
from torch import Tensor

MAX_SHIFT = 0.04  # of the frame's side, each way
MAX_GAIN = 0.1  # brightness is multiplied by 1 ± this at most


def augment(frames: Tensor, rois: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flip half of the frames, shift each by whole pixels, and multiply its brightness.

    What a shift vacates is black, as around a scanner's picture; what leaves the frame is lost, never wrapped. The ROI
    is clipped at the border, and a shift is held back where it would take more than half of the ROI's width or height.

    Args:
        frames: [B, 1, H, W], intensity in [0, 1].
        rois: [B, 4] int64 boxes x0, y0, x1, y1 in pixels, end exclusive.
        generator: all chance comes from here: equal states give equal batches.

    Returns:
        Frames and ROIs of the same shapes and types.
    """
    batch, _, height, width = frames.shape
    chance = torch.rand(4, batch, generator=generator, device=generator.device).to(frames.device)

    flipped = chance[0] < 0.5
    rois = torch.where(flipped[:, None], _mirror(rois, width), rois)
    dx = _shift(chance[1], rois[:, 0], rois[:, 2], width)
    dy = _shift(chance[2], rois[:, 1], rois[:, 3], height)
    limit = torch.tensor([width, height, width, height], device=rois.device)
    rois = torch.minimum((rois + torch.stack([dx, dy, dx, dy], dim=1)).clamp(min=0), limit)

    rows, row_inside = _sources(dy, height)
    columns, column_inside = _sources(dx, width)
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    gain = 1 + MAX_GAIN * (2 * chance[3] - 1)
    first = height * torch.arange(batch, device=rois.device)[:, None]  # row of each frame in all of them
    moved = frames.reshape(-1, width).index_select(0, (first + rows).flatten()).view(batch, height, width)
    moved = moved.gather(2, columns[:, None, :].expand(-1, height, -1))
    moved.mul_((gain[:, None] * row_inside)[:, :, None]).mul_(column_inside[:, None, :]).clamp_(0, 1)
    return moved[:, None], rois


def _mirror(rois: Tensor, width: int) -> Tensor:
    x0, y0, x1, y1 = rois.unbind(dim=1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)


def _shift(chance: Tensor, start: Tensor, end: Tensor, side: int) -> Tensor:
    """[B] whole pixels, uniform within ±MAX_SHIFT of the side, held back so that half of start…end stays inside."""
    most = int(MAX_SHIFT * side)
    shift = (chance * (2 * most + 1)).long() - most
    kept = (end - start + 1) // 2
    return torch.minimum(torch.maximum(shift, kept - end), side - kept - start)


def _sources(shift: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """[B, side] where each pixel of one axis comes from, and whether that lies inside the frame."""
    source = torch.arange(side, device=shift.device) - shift[:, None]
    return source.clamp(0, side - 1), (source >= 0) & (source < side)
