"""What a peer wrote, as it is shown."""

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from roiae.errors import RefusalError
from roiae.text import problems, shown, shown_lines
from roiae.wire.contract import parse_task
from roiae.wire.envelope import Ask, Envelope

HOSTILE = [
    "\x1b[2J\x1b[31mrun first is done\x1b[0m",
    "a\nroiae-server: all well\n",
    "a\r\x08\x08b",
    "\u202egnp.esion\u202c",
    "\u2066x\u2069\u200b\ufeff",
    "\u2028new\u2029lines\x85",
    "Z\u0335\u0324\u0353" * 500,
    "\ud800\udfff",
    "\x9b31m",  # the escape sequence of one byte
    "k" * 1_000_000,
    "\x00" * 1_000_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_shown_is_one_printable_line_of_bounded_length(text: str) -> None:
    line = shown(text)

    assert line.isprintable() and len(line) <= 200
    line.encode("utf-8")


def test_plain_text_is_shown_as_it_is() -> None:
    assert shown("frames of 256×256 px, Müller’s − 3 %") == "frames of 256×256 px, Müller’s − 3 %"


def test_an_escaped_character_can_be_read_and_a_cut_is_marked() -> None:
    assert shown("a\x1b\n\u202e") == "a\\x1b\\n\\u202e"
    assert shown("abcdef", 4) == "abc…"


def test_lines_are_bounded_in_number_too() -> None:
    assert shown_lines("a\nb\x07\nc", 2) == "a\nb\\x07\n…"
    assert shown_lines("a\nb", 2) == "a\nb"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("note", [Ask, Envelope])
def test_no_name_of_a_field_gets_raw_into_a_refusal(note: type[Ask] | type[Envelope], text: str) -> None:
    with pytest.raises(RefusalError) as refused:
        note.from_record({text + str(place): 1 for place in range(50)})

    assert str(refused.value).isprintable() and len(str(refused.value)) < 600


@pytest.mark.parametrize("text", HOSTILE[:6])
def test_no_setting_of_a_task_gets_raw_into_a_refusal(text: str) -> None:
    import json

    with pytest.raises(RefusalError) as refused:
        parse_task("evaluate", json.dumps({text: text, "batch_size": text, "model": {text: 1}}))

    assert str(refused.value).isprintable() and len(str(refused.value)) < 700


def test_the_values_of_what_does_not_fit_are_not_told() -> None:
    class Two(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        a: int

    with pytest.raises(ValidationError) as error:
        Two.model_validate({"a": "jane", "b": "doe"})

    assert problems(error.value) == "a: int_type; b: extra_forbidden"
