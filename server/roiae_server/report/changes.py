"""What a later model gained or lost against an earlier one, by hospital and over all frames of a kind."""

from collections.abc import Mapping

from roiae.config import Role
from roiae.method.metrics import MEASURES, NtAgreement

Scores = Mapping[str, float]  # means over `frames`, and what the NT's readings say: a site's entry in `quality.json`

ROI_ERRORS = ("roi_mae", "roi_edge_mae")


def pooled(scores: Mapping[str, Scores], roles: Mapping[str, Role]) -> dict[str, float]:
    """Mean over all sources' validation frames: a site weighs as much as it has frames; empty without any source."""
    sources = [of for site, of in sorted(scores.items()) if roles[site] is Role.SOURCE]
    frames = sum(of["frames"] for of in sources)
    if not frames:
        return {}
    means = {name: sum(of[name] * of["frames"] for of in sources) / frames for name in MEASURES}
    return means | {"frames": frames} | sum(map(NtAgreement.from_means, sources), NtAgreement()).means()


def change(earlier: Scores, later: Scores) -> dict[str, float | None]:
    """PSNR in dB and MS-SSIM as differences; ROI errors as shares, so that −0.05 is five per cent less.

    None where the earlier error was zero, of which nothing is a share.
    """
    differences: dict[str, float | None] = {name: later[name] - earlier[name] for name in ("psnr", "ms_ssim")}
    return differences | {name: later[name] / earlier[name] - 1 if earlier[name] else None for name in ROI_ERRORS}


def better_in_roi(changed: Mapping[str, float | None]) -> bool:
    """Whether both errors inside the ROI went down."""
    return all((changed[name] or 0) < 0 for name in ROI_ERRORS)
