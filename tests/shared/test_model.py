import pytest
import torch
from torch import nn

from roiae.errors import ConfigError
from roiae.model import Autoencoder


@pytest.mark.parametrize("size", [192, 256, 320])
def test_reconstruction_has_the_frames_shape_and_range(size: int) -> None:
    frame = torch.rand(2, 1, size, size)

    recon = Autoencoder(image_size=size, width=16)(frame)

    assert recon.shape == frame.shape
    assert recon.min() >= 0
    assert recon.max() <= 1


def test_the_latent_is_the_only_way_from_encoder_to_decoder() -> None:
    model = Autoencoder(image_size=192, width=16, latent_dim=128)
    frame = torch.rand(3, 1, 192, 192)

    latent = model.encode(frame)

    assert latent.shape == (3, 128)
    torch.testing.assert_close(model.decode(latent), model(frame))


def test_a_frame_is_reconstructed_the_same_in_any_company() -> None:
    model = Autoencoder(image_size=192, width=16).train()
    frames = torch.rand(3, 1, 192, 192)

    torch.testing.assert_close(model(frames)[:1], model(frames[:1]), atol=1e-5, rtol=0)


def test_there_is_no_batchnorm_and_no_buffer() -> None:
    model = Autoencoder(image_size=192, width=16)

    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()]


def test_the_untrained_head_draws_no_checkerboard() -> None:
    recon = Autoencoder(image_size=192, width=16)(torch.rand(2, 1, 192, 192))

    corner = recon[..., ::2, ::2]
    for row, column in [(0, 1), (1, 0), (1, 1)]:
        torch.testing.assert_close(recon[..., row::2, column::2], corner, atol=1e-6, rtol=0)


def test_every_parameter_gets_a_gradient() -> None:
    model = Autoencoder(image_size=192, width=16)

    model(torch.rand(2, 1, 192, 192)).square().mean().backward()

    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_bfloat16_autocast_reconstructs_nearly_the_same() -> None:
    model = Autoencoder(image_size=192, width=16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    frame = torch.rand(2, 1, 192, 192)

    with torch.autocast("cpu", torch.bfloat16):
        recon = model(frame)

    torch.testing.assert_close(recon.float(), model(frame), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("settings", "culprit"),
    [
        ({"image_size": 160}, "image_size is 160"),
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": 250}, "image_size is 250"),
        ({"width": 12}, "width is 12"),
        ({"width": 0}, "width is 0"),
        ({"latent_dim": 0}, "latent_dim is 0"),
    ],
)
def test_an_impossible_size_is_refused_by_name(settings: dict[str, int], culprit: str) -> None:
    with pytest.raises(ConfigError, match=culprit):
        Autoencoder(**settings)
