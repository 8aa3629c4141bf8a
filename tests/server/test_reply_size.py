from pathlib import Path

from roiae.config import ModelConfig
from roiae_server.gateway_settings import REPLY_BYTES
from roiae_server.reply_size import ReplySize, reply_bytes, write_reply_size


def test_a_reply_weighs_little_until_a_run_says_more(tmp_path: Path) -> None:
    size = ReplySize(tmp_path)
    assert size.bytes == REPLY_BYTES

    write_reply_size(tmp_path, 7)
    assert size.bytes == 7
    write_reply_size(tmp_path, 8)
    assert size.bytes == 8


def test_a_reply_has_room_for_the_weights_and_for_scatters_of_the_latents() -> None:
    small, large = (reply_bytes(ModelConfig(latent_dim=dim), 1000) for dim in (16, 512))

    assert small > 1000 + 2**20
    assert large - small == 64 * (512**2 - 16**2)
