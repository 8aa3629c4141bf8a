import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytorch_msssim import MS_SSIM
from scipy import ndimage
from torch import Tensor

from roiae.method.losses import EDGE_EPSILON, EDGE_FLOOR, TERMS, Comparison, ms_ssim_loss, phase_loss, roi_edge, roi_l1
from roiae.method.ms_ssim import ms_ssim

Array = npt.NDArray[np.float64]

BOXES = {
    "inside": (40, 100, 150, 118),
    "one row high": (30, 60, 90, 61),
    "one pixel": (77, 88, 78, 89),
    "top left corner": (0, 0, 50, 12),
    "bottom right corner": (150, 170, 192, 192),
    "one row at the top": (10, 0, 70, 1),
    "the whole frame": (0, 0, 192, 192),
}
THREE_BOXES = torch.tensor([BOXES["inside"], BOXES["one row high"], BOXES["bottom right corner"]])


def structured(batch: int, size: int, seed: int) -> Tensor:
    """Smooth blobs with lines and speckle, as an ultrasound frame has them."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(batch):
        blobs = ndimage.gaussian_filter(rng.normal(size=(size, size)), 6)
        frame = (blobs - blobs.min()) / np.ptp(blobs)
        frame[rng.integers(size, size=4)] = 1
        frames.append(np.clip(frame * rng.rayleigh(0.6, size=frame.shape), 0, 1))
    return torch.from_numpy(np.stack(frames)[:, None]).float()


def blurred_with_noise(frame: Tensor, seed: int) -> Tensor:
    """What a reconstruction looks like: the frame without its detail, and some noise."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(frame.double().numpy(), (0, 0, 2, 2))
    return torch.from_numpy(np.clip(smooth + rng.normal(0, 0.02, smooth.shape), 0, 1)).to(frame.dtype)


def pair(kind: str, size: int, batch: int = 2) -> tuple[Tensor, Tensor]:
    if kind == "structured":
        frame = structured(batch, size, seed=1)
        return blurred_with_noise(frame, seed=2), frame
    generator = torch.Generator().manual_seed(3)
    frame = torch.rand(batch, 1, size, size, generator=generator)
    return (frame + 0.3 * torch.rand(frame.shape, generator=generator)).clamp(0, 1), frame


@pytest.mark.parametrize("kind", ["random", "structured"])
@pytest.mark.parametrize("size", [192, 224, 256, 288])
def test_ms_ssim_equals_pytorch_msssim_in_value_and_gradient(kind: str, size: int) -> None:
    recon, frame = pair(kind, size)
    ours, theirs = recon.clone().requires_grad_(), recon.clone().requires_grad_()
    reference = 1 - MS_SSIM(data_range=1, size_average=True, channel=1)(theirs, frame)
    loss = ms_ssim_loss(Comparison(ours, frame, THREE_BOXES))

    loss.backward()  # type: ignore[no-untyped-call]
    reference.backward()

    assert ours.grad is not None
    assert theirs.grad is not None
    assert loss.item() == pytest.approx(reference.item(), abs=1e-5)
    assert (ours.grad - theirs.grad).norm() <= 1e-4 * theirs.grad.norm()


def test_ms_ssim_of_a_frame_with_itself_is_one() -> None:
    frame = structured(2, 192, seed=4)

    torch.testing.assert_close(ms_ssim(frame, frame), torch.ones(2))


def test_ms_ssim_of_a_negative_has_a_finite_gradient() -> None:
    frame = structured(2, 192, seed=5)
    recon = (1 - frame).requires_grad_()

    loss = ms_ssim_loss(Comparison(recon, frame, THREE_BOXES))
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == 1 - MS_SSIM(data_range=1, size_average=True, channel=1)(recon, frame).item()
    assert recon.grad is not None
    assert recon.grad.isfinite().all()


def slow_roi_l1(recon: Array, frame: Array, box: tuple[int, int, int, int]) -> float:
    x0, y0, x1, y1 = box
    return float(np.mean([abs(recon[y, x] - frame[y, x]) for y in range(y0, y1) for x in range(x0, x1)]))


def slow_roi_edge(recon: Array, frame: Array, box: tuple[int, int, int, int]) -> float:
    """Scipy's Sobel operator on the whole frame, borders repeated; its kernel sums to 8 times the slope per px."""
    x0, y0, x1, y1 = box

    def strength(image: Array) -> Array:
        gx, gy = (ndimage.sobel(image, axis, mode="nearest") / 8 for axis in (1, 0))
        whole: Array = np.sqrt(gx**2 + gy**2 + EDGE_EPSILON**2)
        return whole[y0:y1, x0:x1]

    scale = max(float(np.percentile(strength(frame), 99)), EDGE_FLOOR)
    return float(np.mean(np.abs(strength(recon) / scale - strength(frame) / scale)))


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
def test_roi_terms_equal_a_slow_computation_on_the_whole_frame(box: tuple[int, int, int, int]) -> None:
    recon, frame = (image.double() for image in pair("structured", 192, batch=1))
    roi = torch.tensor([box])

    assert roi_l1(Comparison(recon, frame, roi)).item() == pytest.approx(
        slow_roi_l1(recon[0, 0].numpy(), frame[0, 0].numpy(), box)
    )
    assert roi_edge(Comparison(recon, frame, roi)).item() == pytest.approx(
        slow_roi_edge(recon[0, 0].numpy(), frame[0, 0].numpy(), box)
    )


@pytest.mark.parametrize("name", ["roi_l1", "roi_edge"])
def test_a_large_roi_weighs_no_more_than_a_small_one(name: str) -> None:
    recon, frame = pair("structured", 192, batch=3)
    alone = [TERMS[name](Comparison(recon[i : i + 1], frame[i : i + 1], THREE_BOXES[i : i + 1])) for i in range(3)]

    torch.testing.assert_close(TERMS[name](Comparison(recon, frame, THREE_BOXES)), torch.stack(alone).mean())


@pytest.mark.parametrize(("name", "reach"), [("roi_l1", 0), ("roi_edge", 1)])
def test_roi_terms_ignore_what_lies_beyond_their_reach(name: str, reach: int) -> None:
    recon, frame = pair("structured", 192, batch=1)
    roi = torch.tensor([BOXES["inside"]])
    near = torch.zeros_like(frame, dtype=torch.bool)
    near[..., 100 - reach : 118 + reach, 40 - reach : 150 + reach] = True

    elsewhere = TERMS[name](Comparison(torch.where(near, recon, 0.5), torch.where(near, frame, 0.1), roi))

    torch.testing.assert_close(elsewhere, TERMS[name](Comparison(recon, frame, roi)), rtol=0, atol=0)


def test_roi_edge_sees_the_pixels_just_outside_the_roi() -> None:
    recon, frame = pair("structured", 192, batch=1)
    roi = torch.tensor([BOXES["inside"]])
    changed = recon.clone()
    changed[..., 99, 40:150] = 1.0

    assert roi_edge(Comparison(changed, frame, roi)) != roi_edge(Comparison(recon, frame, roi))


def test_roi_edge_counts_a_dim_frames_membrane_as_much_as_a_bright_ones() -> None:
    recon, frame = pair("structured", 192, batch=1)
    roi = torch.tensor([BOXES["inside"]])

    assert roi_edge(Comparison(recon / 2, frame / 2, roi)).item() == pytest.approx(
        roi_edge(Comparison(recon, frame, roi)).item(), rel=0.01
    )


@pytest.mark.parametrize("name", list(TERMS))
def test_gradients_agree_with_finite_differences(name: str) -> None:
    size = 176 if name == "ms_ssim" else 12
    generator = torch.Generator().manual_seed(6)
    frame = torch.rand(2, 1, size, size, generator=generator, dtype=torch.float64)
    recon = (0.7 * frame + 0.2 * torch.rand(frame.shape, generator=generator, dtype=torch.float64)).requires_grad_()
    roi = torch.tensor([[2, 3, 9, 8], [0, 5, 12, 6]])
    loss = TERMS[name](Comparison(recon, frame, roi))
    (gradient,) = torch.autograd.grad(loss, recon)

    for _ in range(5):
        direction = torch.randn(frame.shape, generator=generator, dtype=torch.float64)
        step = 1e-7 * direction
        with torch.no_grad():
            slope = (
                TERMS[name](Comparison(recon + step, frame, roi)) - TERMS[name](Comparison(recon - step, frame, roi))
            ) / 2e-7
        assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", list(TERMS))
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_frames_give_finite_losses_and_gradients(name: str, level: float) -> None:
    frame = torch.full((3, 1, 192, 192), level)
    recon = torch.full_like(frame, 0.5, requires_grad=True)

    loss = TERMS[name](Comparison(recon, frame, THREE_BOXES))
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.isfinite()
    assert recon.grad is not None
    assert recon.grad.isfinite().all()


@pytest.mark.parametrize("name", list(TERMS))
def test_terms_are_computed_in_float32_under_autocast(name: str) -> None:
    recon, frame = pair("structured", 192, batch=3)
    recon = recon.bfloat16()

    with torch.autocast("cpu", torch.bfloat16):
        loss = TERMS[name](Comparison(recon, frame, THREE_BOXES))

    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, TERMS[name](Comparison(recon.float(), frame, THREE_BOXES)), rtol=0, atol=0)


def test_a_phase_is_the_weighted_sum_of_its_terms() -> None:
    recon, frame = pair("structured", 192, batch=3)

    loss, terms = phase_loss({"ms_ssim": 1.0, "roi_l1": 0.25, "roi_edge": 0.5}, recon, frame, THREE_BOXES)

    assert list(terms) == ["ms_ssim", "roi_l1", "roi_edge"]
    torch.testing.assert_close(loss, terms["ms_ssim"] + 0.25 * terms["roi_l1"] + 0.5 * terms["roi_edge"])


def test_a_phase_computes_only_the_terms_in_its_table() -> None:
    recon, frame = pair("structured", 192, batch=3)

    loss, terms = phase_loss({"ms_ssim": 1.0}, recon, frame, THREE_BOXES)

    assert list(terms) == ["ms_ssim"]
    torch.testing.assert_close(loss, ms_ssim_loss(Comparison(recon, frame, THREE_BOXES)))
