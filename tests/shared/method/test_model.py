import pytest
import torch
from torch import nn

from roiae.errors import ConfigError
from roiae.method.model import Autoencoder


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


def test_the_untrained_heads_interleaved_convolutions_are_equal() -> None:
    interleaved = next(m for m in Autoencoder(image_size=192, width=16).decoder.modules() if is_interleaved(m))

    for parameter in interleaved.parameters():
        torch.testing.assert_close(parameter, parameter[:1].expand_as(parameter), rtol=0, atol=0)


def test_no_weights_draw_a_checkerboard() -> None:
    head = Autoencoder(image_size=192, width=16).decoder[-1]
    for parameter in next(m for m in head.modules() if is_interleaved(m)).parameters():
        torch.nn.init.normal_(parameter)

    recon = head(torch.randn(1, 16, 1, 1).expand(1, 16, 24, 24))

    inside = recon[..., 16:-16, 16:-16]  # beyond the reach of the border's zeros
    torch.testing.assert_close(inside, inside.mean().expand_as(inside), rtol=0, atol=1e-6)


def is_interleaved(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.out_channels == 4


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


@pytest.mark.parametrize("size", [160, 0, 250])
def test_an_impossible_size_is_refused_by_name(size: int) -> None:
    with pytest.raises(ConfigError, match=f"image_size is {size}"):
        Autoencoder(image_size=size)
