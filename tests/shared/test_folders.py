from pathlib import Path

import pytest

from roiae.errors import SetupError
from roiae.folders import new_folder, require_folder


def test_a_block_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "new", "marker"):
        (tmp_path / "new" / "inner").mkdir()
        (tmp_path / "new" / "key").write_text("secret")
        raise KeyboardInterrupt

    assert not (tmp_path / "new").exists()


def test_a_block_that_fails_leaves_an_empty_folder_empty(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No space"), new_folder(tmp_path, "marker"):
        (tmp_path / "key").write_text("secret")
        raise OSError(28, "No space left on device")

    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b", "marker"):
        pass

    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("file", "message"), [("marker", "has a marker already"), ("letter.txt", "is not empty")])
def test_somebodys_folder_is_left_alone(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / file).write_text("mine")

    with pytest.raises(SetupError, match=message), new_folder(tmp_path, "marker"):
        pass
    assert (tmp_path / file).read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SetupError, match="is a file"), new_folder(tmp_path / "file", "marker"):
        pass


def test_a_folder_without_its_marker_is_not_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SetupError, match=r"holds no marker, so it is not a hospital's folder.*`init`"):
            require_folder(path, "marker", "a hospital's", "init")


def test_another_users_folder_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    monkeypatch.setattr(Path, "exists", closed)

    with pytest.raises(SetupError, match="as the user who owns the folder"):
        require_folder(tmp_path, "marker", "a hospital's", "init")
    with pytest.raises(SetupError, match="as the user who owns the folder"), new_folder(tmp_path, "marker"):
        pass
