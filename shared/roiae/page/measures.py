"""The columns of a quality table: the measures, and the NT beside them."""

from collections.abc import Mapping

# Measure, its heading, its format, and whether more is better.
MEASURES = (
    ("psnr", "PSNR dB", ".2f", True),
    ("ms_ssim", "MS-SSIM", ".4f", True),
    ("roi_mae", "ROI MAE", ".4f", False),
    ("roi_edge_mae", "ROI Edge-MAE", ".4f", False),
)

NT_HEADING = "NT px (mm)"


def nt_cell(scores: Mapping[str, float]) -> str:
    """Mean difference of the NT's thickness in a frame and in its reconstruction, and over how many frames."""
    if "nt_px" not in scores:
        return "–"
    mm = f" ({scores['nt_mm']:.2f})" if "nt_mm" in scores else ""
    return f"{scores['nt_px']:.2f}{mm}, n={scores['nt_frames']:.0f}"
