import io
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from roiae.data.phantom import SCANNERS, draw_phantom
from roiae_client.checks.facts import is_marked, measure, perceptual_hashes, stroke_maps

PLAIN = SCANNERS[3]
ROIS = np.tile([40, 100, 200, 120], (6, 1))
assert not any("text" in part for part in PLAIN.overlay)


@pytest.fixture(scope="module")
def phantoms() -> NDArray[np.uint8]:
    return np.stack([draw_phantom(PLAIN, seed, side=256).frame for seed in range(6)])


def test_strokes_are_the_white_top_hat_of_scipy(phantoms: NDArray[np.uint8]) -> None:
    expected = [ndimage.white_tophat(frame, size=(7, 7), mode="nearest") >= 70 for frame in phantoms]
    np.testing.assert_array_equal(stroke_maps(phantoms), expected)


def test_a_hash_survives_jpeg_and_gain_and_tells_two_fetuses_apart(phantoms: NDArray[np.uint8]) -> None:
    stream = io.BytesIO()
    Image.fromarray(phantoms[0]).save(stream, "JPEG", quality=50)
    again = np.stack([np.asarray(Image.open(stream)), (phantoms[0] * 0.8).astype(np.uint8)])
    hashes, copies = perceptual_hashes(phantoms), perceptual_hashes(again)
    assert (copies != hashes[0]).sum(axis=1).max() <= 16
    assert min((hashes[0] != other).sum() for other in hashes[1:]) > 32


def test_text_on_dark_ground_is_counted_and_a_plain_frame_has_none(phantoms: NDArray[np.uint8]) -> None:
    with_text = np.stack([draw_phantom(SCANNERS[0], seed, side=256).frame for seed in range(6)])
    assert "text right" in SCANNERS[0].overlay or "text left" in SCANNERS[0].overlay
    assert (measure(with_text, ROIS).text_bands > 0).all()
    assert (measure(phantoms, ROIS).text_bands == 0).all()


def test_the_histogram_and_the_spread_are_those_of_the_pixels(phantoms: NDArray[np.uint8]) -> None:
    facts = measure(phantoms, ROIS)
    np.testing.assert_array_equal(facts.histogram, np.bincount(phantoms.ravel(), minlength=256))
    np.testing.assert_allclose(facts.spread, phantoms.reshape(6, -1).std(axis=1), rtol=1e-5)
    np.testing.assert_allclose(facts.brightest, np.percentile(phantoms.reshape(6, -1), 99.9, axis=1), atol=1)


def test_memory_does_not_grow_with_the_number_of_frames(phantoms: NDArray[np.uint8]) -> None:
    peaks = []
    for number in (64, 192):
        frames = np.broadcast_to(phantoms[0], (number, *phantoms[0].shape))
        tracemalloc.start()
        try:
            measure(frames, np.tile(ROIS[:1], (number, 1)))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_a_dot_at_the_roi_is_a_mark_and_one_elsewhere_or_a_line_is_not() -> None:
    rng = np.random.default_rng(0)
    echoes = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 2)
    frame = np.clip(90 + 200 * echoes, 30, 220).astype(np.uint8)
    dotted, lined, elsewhere = frame.copy(), frame.copy(), frame.copy()
    dotted[110, 100] = elsewhere[30, 100] = 255
    lined[110] = 255
    assert [is_marked(picture, ROIS[0]) for picture in (frame, dotted, lined, elsewhere)] == [False, True, False, False]


def test_progress_counts_every_frame(phantoms: NDArray[np.uint8]) -> None:
    calls: list[tuple[int, int]] = []
    measure(phantoms, ROIS, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (6, 6)
