"""The two-phase autoencoder for fetal ultrasound: its network, losses, calibration and measures, and a hospital's data.

What is named here is stable; docs/API.md has it. A name is loaded when it is first used: commands start at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roiae.data.site_data import FrameSet, SiteData, open_site
    from roiae.errors import RoiaeError
    from roiae.method.calibration import Calibration, calibrate
    from roiae.method.exported import load
    from roiae.method.losses import phase_loss
    from roiae.method.metrics import Quality, quality
    from roiae.method.model import Autoencoder
    from roiae.method.ms_ssim import ms_ssim

__all__ = [
    "Autoencoder",
    "Calibration",
    "FrameSet",
    "Quality",
    "RoiaeError",
    "SiteData",
    "calibrate",
    "load",
    "ms_ssim",
    "open_site",
    "phase_loss",
    "quality",
]

_PLACES = {
    "Autoencoder": "method.model",
    "Calibration": "method.calibration",
    "FrameSet": "data.site_data",
    "Quality": "method.metrics",
    "RoiaeError": "errors",
    "SiteData": "data.site_data",
    "calibrate": "method.calibration",
    "load": "method.exported",
    "ms_ssim": "method.ms_ssim",
    "open_site": "data.site_data",
    "phase_loss": "method.losses",
    "quality": "method.metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'roiae' has no attribute {name!r}")
    return getattr(import_module(f"roiae.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
