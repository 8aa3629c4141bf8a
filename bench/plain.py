"""Training as a user would write it: float32, `pytorch_msssim`, Adam, ROI terms by convolutions over whole frames."""

import torch
import torch.nn.functional as F
from pytorch_msssim import MS_SSIM
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from roiae.data.site_data import FrameSet
from roiae.method.losses import EDGE_EPSILON, EDGE_FLOOR


class PlainLoss(nn.Module):
    """The same losses as `roiae.method.losses.phase_loss`, by name and weight."""

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        self.weights = weights
        self.ms_ssim = MS_SSIM(data_range=1, size_average=True, channel=1)
        sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
        self.register_buffer("sobel", torch.stack([sobel, sobel.T])[:, None])

    def forward(self, recon: Tensor, frame: Tensor, roi: Tensor) -> Tensor:
        loss = recon.new_zeros(())
        if "ms_ssim" in self.weights:
            loss = loss + self.weights["ms_ssim"] * (1 - self.ms_ssim(recon, frame))
        if "roi_l1" in self.weights:
            mask = self.mask(frame, roi)
            loss = loss + self.weights["roi_l1"] * self.mean(mask, (recon - frame).abs())
            ours, target = self.edges(recon), self.edges(frame)
            peaks = [torch.quantile(edge[inside > 0], 0.99) for edge, inside in zip(target, mask, strict=True)]
            scale = torch.stack(peaks).clamp_min(EDGE_FLOOR)[:, None, None, None]
            loss = loss + self.weights["roi_edge"] * self.mean(mask, (ours / scale - target / scale).abs())
        return loss

    def mask(self, frame: Tensor, roi: Tensor) -> Tensor:
        mask = torch.zeros_like(frame)
        for inside, (x0, y0, x1, y1) in zip(mask, roi.tolist(), strict=True):
            inside[:, y0:y1, x0:x1] = 1
        return mask

    def mean(self, mask: Tensor, error: Tensor) -> Tensor:
        return ((error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))).mean()

    def edges(self, image: Tensor) -> Tensor:
        slopes = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), self.sobel)  # type: ignore[arg-type]
        return (slopes.square().sum(1, keepdim=True) + EDGE_EPSILON**2).sqrt()


def train(model: nn.Module, data: FrameSet, weights: dict[str, float], batch_size: int) -> float:
    """Train in place for an epoch; the last loss."""
    frames = torch.from_numpy(data.frames).float()[:, None] / 255
    loader = DataLoader(TensorDataset(frames, torch.from_numpy(data.rois)), batch_size, shuffle=True)
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=1e-4), PlainLoss(weights)
    last = 0.0
    for frame, roi in loader:
        loss = criterion(model(frame), frame, roi)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last = loss.item()
    return last
