import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from roiae.data.phantom import SCANNERS, draw_phantom
from roiae.errors import Reason, RefusalError
from roiae.method.losses import Comparison, ms_ssim_loss, roi_edge, roi_l1
from roiae.method.metrics import MAX_PSNR, Evaluation, NtAgreement, Quality, nt_agreement, psnr, quality

ROI = torch.tensor([[40, 100, 150, 118], [30, 60, 90, 61], [150, 170, 192, 192], [0, 0, 50, 12], [5, 5, 60, 30]])


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    frame = torch.rand(5, 1, 192, 192, generator=generator)
    noise = torch.randn(frame.shape, generator=generator) * torch.tensor([0.01, 0.05, 0.1, 0.2, 0.4]).view(5, 1, 1, 1)
    return (frame + noise).clamp(0, 1), frame


def test_psnr_of_each_frame_equals_scikit_image(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    recon, frame = batch

    reference = [
        peak_signal_noise_ratio(theirs.double().numpy(), ours.double().numpy(), data_range=1)  # type: ignore[no-untyped-call]
        for ours, theirs in zip(recon, frame, strict=True)
    ]

    np.testing.assert_allclose(psnr(recon, frame).numpy(), reference, rtol=1e-9)


def test_the_metrics_are_the_losses(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    means = quality(*batch, ROI).means()

    assert means["ms_ssim"] == pytest.approx(1 - ms_ssim_loss(Comparison(*batch, ROI)).item(), abs=1e-6)
    assert means["roi_mae"] == pytest.approx(roi_l1(Comparison(*batch, ROI)).item(), rel=1e-6)
    assert means["roi_edge_mae"] == pytest.approx(roi_edge(Comparison(*batch, ROI)).item(), rel=1e-6)
    assert means["frames"] == 5


def test_two_hospitals_added_equal_the_pooled_frames(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    recon, frame = batch

    added = quality(recon[:2], frame[:2], ROI[:2]) + quality(recon[2:], frame[2:], ROI[2:])

    assert added.means() == pytest.approx(quality(recon, frame, ROI).means(), rel=1e-6)


def test_nothing_is_the_start_of_a_sum(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    of_batch = quality(*batch, ROI)

    assert sum([of_batch], Quality()) == of_batch


def test_a_perfect_reconstruction_has_a_finite_quality(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    frame = batch[1]

    means = quality(frame, frame, ROI).means()

    assert means == pytest.approx(
        {"psnr": MAX_PSNR, "ms_ssim": 1.0, "roi_mae": 0.0, "roi_edge_mae": 0.0, "frames": 5}, abs=1e-6
    )


@pytest.mark.parametrize(("recon", "frame"), [(0.0, 0.0), (0.0, 1.0), (0.5, 0.0), (1.0, 0.3)])
def test_constant_frames_have_a_finite_quality(recon: float, frame: float) -> None:
    shape = (5, 1, 192, 192)

    means = quality(torch.full(shape, recon), torch.full(shape, frame), ROI).means()

    assert np.isfinite(list(means.values())).all()


def test_sums_survive_the_wire(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    of_batch = quality(*batch, ROI)

    assert Quality.from_sums(of_batch.to_sums()) == of_batch
    assert all(type(total) is float for total in of_batch.to_sums().values())


@pytest.mark.parametrize(
    "change",
    [{"psnr": float("nan")}, {"roi_mae": float("inf")}, {"frames": 2.5}, {"frames": -1.0}, {"surprise": 1.0}],
    ids=str,
)
def test_impossible_sums_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(RefusalError) as refusal:
        Quality.from_sums(Quality(25.0, 0.9, 0.1, 0.1, 1).to_sums() | change)

    assert refusal.value.reason is Reason.BAD_METRICS


def test_a_missing_sum_is_refused() -> None:
    with pytest.raises(RefusalError):
        Quality.from_sums({"psnr": 25.0, "frames": 1.0})


@pytest.fixture(scope="module")
def phantoms() -> tuple[torch.Tensor, torch.Tensor]:
    """Four frames and their ROIs."""
    drawn = [draw_phantom(SCANNERS[1], seed) for seed in range(4)]
    frames = torch.stack([torch.from_numpy(phantom.frame.copy())[None] for phantom in drawn]).float() / 255
    return frames, torch.tensor([phantom.roi for phantom in drawn])


def test_a_perfect_reconstruction_keeps_every_reading(phantoms: tuple[torch.Tensor, torch.Tensor]) -> None:
    frames, rois = phantoms

    found = nt_agreement(frames, frames, rois, np.full((4, 2), 2.0), np.full((4, 2), np.nan))

    assert found == NtAgreement(nt_frames=4)
    assert found.means() == {"nt_frames": 4, "nt_px": 0.0, "nt_mm_frames": 0, "nt_one_sided": 0}


def test_the_nt_differs_in_stored_pixels_and_in_mm_where_a_pixels_size_is_known(
    phantoms: tuple[torch.Tensor, torch.Tensor],
) -> None:
    frames, rois = phantoms
    blurred = torch.nn.functional.avg_pool2d(frames, 5, 1, 2)
    mm = np.array([[0.1, 0.1], [0.1, 0.1], [np.nan, np.nan], [np.nan, np.nan]])

    once = nt_agreement(blurred, frames, rois, np.ones((4, 2)), mm)
    twice = nt_agreement(blurred, frames, rois, np.full((4, 2), 2.0), mm)
    known = nt_agreement(blurred[:2], frames[:2], rois[:2], np.ones((2, 2)), mm[:2])

    assert (once.nt_frames, once.nt_mm_frames) == (4, 2)
    assert once.nt_px > 0.1
    assert twice.nt_px == pytest.approx(2 * once.nt_px)
    assert once.nt_mm == pytest.approx(0.1 * known.nt_px)


def test_an_nt_that_one_of_the_two_does_not_show_is_counted_and_not_invented(
    phantoms: tuple[torch.Tensor, torch.Tensor],
) -> None:
    frames, rois = phantoms
    flat = torch.full_like(frames, 0.5)
    sizes = np.ones((4, 2)), np.ones((4, 2))

    assert nt_agreement(flat, frames, rois, *sizes) == NtAgreement(nt_one_sided=4)
    assert nt_agreement(flat, flat, rois, *sizes) == NtAgreement()


NT = NtAgreement(nt_frames=3, nt_px=1.5, nt_mm_frames=2, nt_mm=0.25, nt_one_sided=1)


def test_an_evaluation_survives_the_wire_and_adds_up() -> None:
    one = Evaluation(Quality(25.0, 0.9, 0.1, 0.1, 4), NT)

    assert Evaluation.from_sums(one.to_sums()) == one
    assert (one + one).nt == NtAgreement(6, 3.0, 4, 0.5, 2)
    assert NtAgreement.from_means(one.means()) == NT


@pytest.mark.parametrize(
    "change",
    [
        {"nt_px": float("nan")}, {"nt_mm": -0.1}, {"nt_frames": 2.5}, {"nt_mm_frames": 4.0}, {"nt_one_sided": 2.0},
        {"nt_frames": float("inf")}, {"surprise": 1.0},
    ],
)  # fmt: skip
def test_sums_that_cannot_be_are_refused(change: dict[str, float]) -> None:
    sums = Evaluation(Quality(25.0, 0.9, 0.1, 0.1, 4), NT).to_sums() | change

    with pytest.raises(RefusalError) as refused:
        Evaluation.from_sums(sums)

    assert refused.value.reason is Reason.BAD_METRICS
