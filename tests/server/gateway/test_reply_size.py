from pathlib import Path

from roiae_server.gateway.reply_size import ReplySize, write_reply_size
from roiae_server.gateway.settings import REPLY_BYTES


def test_a_reply_weighs_little_until_a_run_says_more(tmp_path: Path) -> None:
    size = ReplySize(tmp_path)
    assert size.bytes == REPLY_BYTES

    write_reply_size(tmp_path, 7)
    assert size.bytes == 7
    write_reply_size(tmp_path, 8)
    assert size.bytes == 8
