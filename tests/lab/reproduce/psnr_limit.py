"""How much PSNR the ROI can give: the share of a phase-1 model's squared error that lies inside it.

    python -m tests.lab.reproduce.psnr_limit OUT DATA     the figures of docs/RESULTS.md, a minute

OUT is a folder of `roiae-server reproduce`, DATA the folder that it was given. Validation frames of the sources and all
frames of the held-out hospital; means over frames, hospitals held out and seeds.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from roiae.config import Role
from roiae.method.model import Autoencoder
from roiae.method.training import load_arrays, reconstructions
from tests.lab.reproduce.experiment import opened

NAMES = ("share of the frame", "of its squared error", "dB if the ROI were perfect", "dB if its errors fell by 20 %")


def figures(recon: Tensor, frame: Tensor, roi: Tensor) -> list[float]:
    """Of one frame [1, S, S] and its reconstruction, in the order of NAMES."""
    x0, y0, x1, y1 = roi.tolist()
    error = (recon - frame).square()[0].double()
    share = float(error[y0:y1, x0:x1].sum() / error.sum())
    gains = (-10 * torch.log10(torch.tensor(1 - part * share)) for part in (1, 0.36))  # (1 − 0.2)² is 0.36 less
    return [(x1 - x0) * (y1 - y0) / error.numel(), share, *map(float, gains)]


def of_experiment(out: Path, data: Path) -> Iterator[tuple[str, list[float]]]:
    for experiment in opened(out, data):
        model = Autoencoder(**experiment.config.model.model_dump())
        load_arrays(model, experiment.phase1)
        for site in experiment.sites:
            held_out = site.role is Role.HELD_OUT
            sets = (site.data.train, site.data.validation) if held_out else (site.data.validation,)
            for frame_set in sets:
                for _, frames, rois, recons in reconstructions(model, frame_set, experiment.config.train.batch_size):
                    for frame, roi, recon in zip(frames, rois, recons, strict=True):
                        yield "held out" if held_out else "validation", figures(recon, frame, roi)


def main(out: Path, data: Path) -> None:
    found: dict[str, list[list[float]]] = {}
    for kind, of_frame in of_experiment(out, data):
        found.setdefault(kind, []).append(of_frame)
    print("| frames |", " | ".join(NAMES), "|")
    print("|---|" + "---|" * len(NAMES))
    for kind in ("validation", "held out"):
        means = torch.tensor(found[kind], dtype=torch.float64).mean(0).tolist()
        print(f"| {kind}, {len(found[kind])} |", " | ".join(f"{value:.3f}" for value in means), "|")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
