"""What the attacks are measured with, against others' code; no frame is needed."""

import re

import numpy as np
from sklearn.metrics import roc_auc_score

from tests.attacks.crafted import SIDE, features, pictures_of, routed_encoder
from tests.attacks.likeness import best_likeness, correlations, reduced
from tests.attacks.page import ATTACKS, BEGIN, END, PAGE, put_in, table
from tests.attacks.test_membership import auc
from tests.attacks.trap import path


def test_correlations_are_numpys() -> None:
    some, others = np.random.default_rng(0).random((2, 3, 8, 8))

    expected = np.corrcoef(some.reshape(3, -1), others.reshape(3, -1))[:3, 3:]
    np.testing.assert_allclose(correlations(some, others), expected)


def test_the_auc_is_scikit_learns_with_ties() -> None:
    members, others = np.array([1.0, 2, 2, 3]), np.array([0.0, 2, 1])

    assert auc(members, others) == roc_auc_score([1] * 4 + [0] * 3, [*members, *others])


def test_a_frame_itself_is_found_and_its_neighbour_is_another_one() -> None:
    frames = np.random.default_rng(0).random((5, 32, 32))

    found = best_likeness(1 - frames[2:3] / 2, frames)

    assert found.correlation > 0.999
    assert found.ssim > 0.999  # brightness and contrast are set to the frame's
    assert found.neighbour_correlation < 0.5


def test_a_routed_encoder_passes_the_frame_through() -> None:
    frames = np.random.default_rng(0).random((2, 4 * SIDE, 4 * SIDE)).astype(np.float32)

    shown = pictures_of(features(routed_encoder(), frames))

    assert np.diag(correlations(shown, reduced(frames, SIDE))).min() > 0.999


def test_a_path_ends_where_it_should_in_steps_that_are_short_enough() -> None:
    start, end = {"w": np.zeros(4, np.float32)}, {"w": np.array([3, 0, 0, 4], np.float32)}

    steps = path(start, end, norm=2.0, most=1.0)

    assert len(steps) == 4
    np.testing.assert_allclose(steps[-1]["w"], end["w"])


def test_the_table_names_what_was_not_tried() -> None:
    forged = {"attack": "forged request", "commit": "abc", "off": "answered", "refused": ["bad-signature"]}

    written = table([forged])
    page = put_in(f"# Words\n{BEGIN}old\n{END}more words\n", written)

    assert "| answered | refused: `bad-signature` |" in page
    assert all(what in page for what in ATTACKS.values())
    assert page.startswith("# Words\n")
    assert page.endswith("more words\n")
    assert "old" not in page


def test_the_page_has_a_place_for_its_table_and_names_tests_that_there_are() -> None:
    page = PAGE.read_text()
    named = re.findall(r"`((?:tests/)?[\w/]*(?:test_\w+\.py|tests/\w+))`", page)

    assert page.count(BEGIN) == page.count(END) == 1
    assert len(named) == 4
    assert all(list(PAGE.parents[1].glob(f"**/{name}")) for name in named)
