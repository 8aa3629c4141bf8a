import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from roiae.data.cache import Decoded, Unusable, cached_frames, default_cache_dir
from roiae.errors import DataError, Fault

SIDE = 8
TRUNCATED = Unusable(Fault.UNREADABLE, "truncated")


def decode() -> Iterator[Decoded | Unusable]:
    yield Decoded(np.full((SIDE, SIDE), 7, dtype=np.uint8), (40, 30))
    yield TRUNCATED
    yield Decoded(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE), (20, 10), (3, 4), (0.1, 0.2))


def nothing() -> Iterator[Decoded | Unusable]:
    pytest.fail("decoded although the cache was whole")
    yield TRUNCATED


def test_frames_where_they_lay_and_reasons_come_back(cache_dir: Path) -> None:
    for source in (decode(), nothing()):
        cached = cached_frames(cache_dir, "key", SIDE, source)
        assert cached.frames.shape == (2, SIDE, SIDE)
        assert cached.frames[1, 1, 0] == SIDE
        assert cached.sizes.tolist() == [[40, 30], [20, 10]]
        assert cached.origins.tolist() == [[0, 0], [3, 4]]
        np.testing.assert_array_equal(cached.mm_per_px, [[np.nan, np.nan], [0.1, 0.2]])
        assert cached.reasons == {1: TRUNCATED}


def test_frames_stay_on_disk_until_they_are_used(cache_dir: Path) -> None:
    frames = cached_frames(cache_dir, "key", SIDE, decode()).frames
    assert not frames.flags.owndata
    assert not frames.flags.writeable


def test_all_frames_may_be_missing(cache_dir: Path) -> None:
    assert cached_frames(cache_dir, "key", SIDE, iter([TRUNCATED])).frames.shape == (0, SIDE, SIDE)


@pytest.mark.parametrize("kept", [0, 1, 39, 100, -1])
def test_a_torn_file_is_built_again(cache_dir: Path, kept: int) -> None:
    whole = cached_frames(cache_dir, "key", SIDE, decode()).frames.copy()
    (path,) = cache_dir.glob("*.frames")
    path.write_bytes(path.read_bytes()[:kept])
    np.testing.assert_array_equal(cached_frames(cache_dir, "key", SIDE, decode()).frames, whole)
    cached_frames(cache_dir, "key", SIDE, nothing())


@pytest.mark.parametrize("place", [0, 70, 135, -40, -33, -1])
def test_a_flipped_bit_anywhere_is_noticed(cache_dir: Path, place: int) -> None:
    whole = cached_frames(cache_dir, "key", SIDE, decode()).frames.copy()
    (path,) = cache_dir.glob("*.frames")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(cached_frames(cache_dir, "key", SIDE, decode()).frames, whole)


def test_a_build_that_dies_leaves_nothing_to_be_mistaken_for_frames(cache_dir: Path) -> None:
    def dies() -> Iterator[Decoded | Unusable]:
        yield from decode()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_frames(cache_dir, "key", SIDE, dies())
    assert [path.suffix for path in cache_dir.iterdir() if path.suffix != ".lock"] == []
    assert len(cached_frames(cache_dir, "key", SIDE, decode()).frames) == 2


def test_a_second_that_opens_during_a_build_waits_for_it(cache_dir: Path) -> None:
    started = threading.Event()

    def slowly() -> Iterator[Decoded | Unusable]:
        started.set()
        time.sleep(0.2)
        yield from decode()

    first = threading.Thread(target=cached_frames, args=(cache_dir, "key", SIDE, slowly()))
    first.start()
    started.wait()
    assert len(cached_frames(cache_dir, "key", SIDE, nothing()).frames) == 2
    first.join()


def test_folders_and_files_are_private(cache_dir: Path) -> None:
    cached_frames(cache_dir / "a" / "b", "key", SIDE, decode())
    assert {path.stat().st_mode & 0o777 for path in (cache_dir, cache_dir / "a", cache_dir / "a" / "b")} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in (cache_dir / "a" / "b").iterdir()} == {0o600}


def test_a_cache_that_cannot_be_written_says_where_it_was_wanted(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(DataError, match=r"taken/key\.frames: the cache .*set ROIAE_CACHE"):
        cached_frames(tmp_path / "taken", "key", SIDE, decode())


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ROIAE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == tmp_path / ".cache" / "roiae"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "roiae"
    monkeypatch.setenv("ROIAE_CACHE", str(tmp_path / "own"))
    assert default_cache_dir() == tmp_path / "own"


def test_a_user_without_a_home_is_told_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ROIAE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DataError, match="Set ROIAE_CACHE"):
        default_cache_dir()
