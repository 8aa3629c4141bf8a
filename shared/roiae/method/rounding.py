"""How far a number is rounded before it leaves a site, simulated or real: no finer than the report needs.

A sum over many frames that is exact to the last bit gives one frame away: the difference of two such sums does.
"""

DECIMALS = {  # of the mean over frames: a sum is rounded to so many decimals for each frame
    "psnr": 2,  # dB
    "ms_ssim": 4,
    "roi_mae": 4,  # intensity in [0, 1]
    "roi_edge_mae": 4,
    "nt_px": 2,  # px of the stored frame
    "nt_mm": 3,  # mm
}
DIGITS = 4  # significant, of losses and gradient magnitudes
SPEED_DIGITS = 3  # significant, of frames a second


def rounded_sum(name: str, total: float, frames: int) -> float:
    """The sum whose mean over the frames has `DECIMALS[name]` decimals; nothing of no frames."""
    return round(total / frames, DECIMALS[name]) * frames if frames else 0.0


def significant(value: float, digits: int = DIGITS) -> float:
    """The number with so many significant digits; NaN and infinity as they are."""
    return float(f"{value:.{digits}g}")
