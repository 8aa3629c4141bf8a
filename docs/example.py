"""A federation of three phantom hospitals, from nothing to a picture, in a minute or two on two cores.

The cells (`# %%`) run one by one in a notebook or an editor, or all at once: `python docs/example.py`.
"""

# %% Three hospitals: two that train, and one held out. Each is a folder with manifest.csv and images.
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import roiae
import roiae_lab
from roiae.data.phantom import SCANNERS, write_hospital

here = Path("example")
names = ("alpha", "beta", "gamma")
for seed, (name, scanner) in enumerate(zip(names, SCANNERS[:3], strict=True)):
    if not (here / "hospitals" / name).exists():
        write_hospital(here / "hospitals" / name, scanner, subjects=110, seed=seed)

site = roiae.open_site(here / "hospitals" / "gamma", image_size=192)
print(f"gamma has {len(site.train)} and {len(site.validation)} frames of {site.train.frames.shape[1]} px")

# %% A few rounds of each phase. The weights of phase 2's terms come from the gradient magnitudes that sites report.
settings = {
    "model.image_size": 192,
    "phase1.rounds": 10,
    "phase1.local_epochs": 2,
    "phase2.rounds": 8,
    "phase2.local_epochs": 1,
    "control": False,
    "shift.k": 20,
}
run = roiae_lab.simulate(here / "hospitals", out=here / "run", holdout="gamma", settings=settings, resume=True)
print("weights of phase 2:", {term: round(weight, 2) for term, weight in run.weights.items()})

# %% What the models are worth at the held-out hospital.
for name in ("phase1", "phase2"):
    means = run.quality[name]["gamma"]
    print(f"{name}: {means['psnr']:.2f} dB, MS-SSIM {means['ms_ssim']:.3f}, ROI MAE {means['roi_mae']:.4f}")

# %% One frame through the network, and the losses that it was trained with.
frames, rois = site.validation.batch(np.array([0]))
with torch.no_grad():
    recon = run.model()(frames)
loss, terms = roiae.phase_loss(run.weights, recon, frames, rois)
print(f"MS-SSIM {float(roiae.ms_ssim(recon, frames)):.3f}; loss {float(loss):.3f} of {sorted(terms)}")
pair = torch.cat([frames, recon], dim=3)[0, 0].mul(255).byte().numpy()
Image.fromarray(pair).save(here / "frame-and-reconstruction.png")

# %% How far the held-out hospital lies from the others, in the latents of each phase.
for name in ("phase1", "phase2"):
    found = run.shift[name]["mahalanobis"]
    print(f"{name}: AUROC {found['auroc']:.3f}" if "auroc" in found else f"{name}: AUROC not computed, {found}")
print(f"open {run.report}")
