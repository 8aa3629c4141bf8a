"""Hospitals in other shapes: pooled, and with boxes elsewhere."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roiae.config import Role
from roiae.errors import ConfigError
from roiae.site.answers import Site
from roiae_lab.reproduce.reshaped_sites import (
    check_same_subjects,
    moved_boxes,
    pooled_fingerprint,
    pooled_site,
    with_moved_boxes,
    with_roles,
)

SIDE = 192
MakeSite = Callable[..., Site]


def test_the_pooled_site_has_every_sources_frames_on_their_own_side(make_site: MakeSite) -> None:
    sources = [make_site("a", train=4, validation=2), make_site("b", train=5, validation=3)]

    pooled = pooled_site(sources)

    assert (pooled.name, pooled.role) == ("pooled", Role.SOURCE)
    assert pooled.data.train.subjects == sources[0].data.train.subjects + sources[1].data.train.subjects
    np.testing.assert_array_equal(pooled.data.train.frames[4:], sources[1].data.train.frames)
    np.testing.assert_array_equal(pooled.data.validation.rois[:2], sources[0].data.validation.rois)
    assert pooled.data.fingerprint == pooled_fingerprint(sources)
    assert pooled_fingerprint(sources[:1]) != pooled_fingerprint(sources)


def test_one_hospital_is_held_out_of_the_same_data(make_site: MakeSite) -> None:
    sites = with_roles([make_site("a"), make_site("b")], "a")

    assert [site.role for site in sites] == [Role.HELD_OUT, Role.SOURCE]


def test_moved_boxes_change_the_fingerprint_and_no_frame(make_site: MakeSite) -> None:
    site = make_site("a")

    moved = with_moved_boxes(site)

    assert moved.data.fingerprint != site.data.fingerprint
    assert moved.data.train.frames is site.data.train.frames
    assert (moved.data.train.rois != site.data.train.rois).any(axis=1).all()


@given(y0=st.integers(0, SIDE - 1), height=st.integers(1, SIDE))
def test_a_moved_box_keeps_its_size_and_stays_inside(y0: int, height: int) -> None:
    y1 = min(y0 + height, SIDE)
    box = np.array([[3, y0, 90, y1]])

    ((x0, top, x1, bottom),) = moved_boxes(box, SIDE)

    assert (x0, x1, bottom - top) == (3, 90, y1 - y0)
    assert 0 <= top < bottom <= SIDE
    if y1 - y0 <= SIDE // 4:
        assert top >= y1 or bottom <= y0, "a box of no more than a quarter leaves its place"


def test_other_boxes_must_be_of_the_same_hospitals_and_the_same_split(make_site: MakeSite) -> None:
    a, b = make_site("a"), make_site("b")
    crossed = replace(a, data=replace(a.data, validation=a.data.train))

    check_same_subjects([a, b], [a, b])
    with pytest.raises(ConfigError, match="has a; expected the hospitals of --data, a, b"):
        check_same_subjects([a, b], [a])
    with pytest.raises(ConfigError, match=r"6 subject\(s\) of a validate there and train in --data"):
        check_same_subjects([a, b], [crossed, b])
