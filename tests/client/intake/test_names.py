import unicodedata

import pytest

from roiae.errors import FrameError
from roiae_client.intake.names import Names, parts_of, without_ending


def find(files: list[str], *stated: str) -> list[str]:
    """The file of each stated name, or the refusal."""
    names = Names(files, stated)
    found = []
    for name in dict.fromkeys(stated):
        try:
            found.append(names.find(name))
        except FrameError as error:
            found.append(f"! {error}")
    return found


@pytest.mark.parametrize(
    ("files", "stated"),
    [
        (["a.png"], "a.png"),
        (["sub/a.png"], "a.png"),
        (["sub/a.png"], "sub/a.png"),
        (["x/sub/a.png", "y/a.png"], "sub/a.png"),
        (["a.png"], r"C:\data\a.png"),
        (["a.png"], "../elsewhere/a.png"),
        (["pat1/a.png"], r"pat1\a.png"),
        (["a.jpg"], "a.png"),
        (["a.dcm"], "a"),
        (["a"], "a.dcm"),
        (["1.2.840.5"], "1.2.840.5"),
        (["IMG_1.PNG"], "img_1.png"),
        (["Pat/IMG_1.PNG"], "pat/img_1.jpg"),
        ([unicodedata.normalize("NFD", "Müller.png")], unicodedata.normalize("NFC", "Müller.png")),
        (["images/train/a.png"], "labels/train/a.txt.png".replace(".txt", "")),
        (["JPEGImages/a.jpg"], "Annotations/a.jpg"),
        (["a.png", "sub/a.png"], "sub/a.png"),
    ],
)
def test_one_file_and_one_name_find_each_other(files: list[str], stated: str) -> None:
    (found,) = find(files, stated)
    assert found in files
    assert without_ending(parts_of(found)[-1]).casefold() == without_ending(parts_of(stated)[-1]).casefold()


@pytest.mark.parametrize(
    ("files", "stated", "refusal"),
    [
        (["patB/a.png"], "patA/a.png", "nearest is 'patB/a.png', and its folder is another"),
        (["patB/images/a.png"], "patA/images/a.png", "its folder is another"),
        (["p/q/a.png"], "p/r/a.png", "its folder is another"),
        (["x/a.png", "y/a.png"], "a.png", "2 files of the source go by this name"),
        (["a.png", "a.jpg"], "a", "2 files"),
        (["a.png", "A.PNG"], "a.Png", "2 files"),
        (["1.2.840.5"], "1.2.840.6", "no such file in the source. The nearest is '1.2.840.5'"),
        (["img_001.png"], "img_002.png", "no such file"),
        (["a.png"], "", "names no file"),
        (["a.png"], "..", "names no file"),
        (["a_mask.png"], "a.png", "no such file"),
    ],
)
def test_a_name_that_could_be_another_file_is_refused(files: list[str], stated: str, refusal: str) -> None:
    (found,) = find(files, stated)
    assert found.startswith("! ")
    assert refusal in found


def test_the_first_channel_of_nnunet_is_the_frame_where_it_is_the_only_one() -> None:
    files = ["imagesTr/case_001_0000.png", "imagesTr/case_002_0000.png"]
    assert find(files, "case_001", "case_002") == files
    assert find([*files, "imagesTr/case_001_0001.png"], "case_001")[0].startswith("! 2 files")
    assert find(["img_0000.png"], "img_0007.png")[0].startswith("! no such file")


def test_a_folder_is_dropped_only_while_both_sides_stay_one_to_one() -> None:
    assert all(found.startswith("! ") for found in find(["a.png"], "patA/a.png", "patB/a.png"))
    assert find(["a.png"], "patA/a.png", "patB/b.png")[0] == "a.png"
    refused = find(["a.png", "sub/a.png"], "data/a.png")
    assert "2 files of the source go by this name" in refused[0]


def test_an_ending_is_dropped_only_while_both_sides_stay_one_to_one() -> None:
    assert all(found.startswith("! ") for found in find(["a.tif"], "a.png", "a.jpg"))
    exact, other = find(["a.png"], "a.png", "a.jpg")
    assert (exact, other.startswith("! ")) == ("a.png", True)


def test_every_frame_of_equal_names_in_folders_is_found_by_its_path() -> None:
    files = [f"pat{number}/img.png" for number in range(200)]
    assert find(files, *(f"D:/study/{file}" for file in files)) == files
    assert find(["a.png", "sub/a.png"], "a.png", "sub/a.png") == ["a.png", "sub/a.png"]


def test_two_pictures_of_one_name_are_refused() -> None:
    with pytest.raises(FrameError, match="2 pictures of the boxes have this name"):
        Names(["a.png"], ["a.png", "a.png"]).find("a.png")
