"""The convolutional autoencoder: one grey frame → a 128-D latent → the frame again, with no way round the latent.

Most of the work happens at a quarter of the resolution and below: the encoder starts with a ×4 strided stem, and the
decoder ends in a ×2 sub-pixel head on half-resolution features. GroupNorm: averaging BatchNorm's statistics over
hospitals is wrong, and a held-out hospital has none.
"""

from typing import cast

import torch
from torch import Tensor, nn

from roiae.errors import ConfigError

SIZE_STEP = 32  # the encoder halves five times
SMALLEST_SIZE = 192  # below it MS-SSIM's fifth scale is narrower than its window of 11 px


class Autoencoder(nn.Module):
    """Reconstructs a frame from a latent vector; there are no skip connections.

    Args:
        image_size: side of the square frame in pixels, a multiple of 32 from 192.
        width: channels at a quarter of the resolution; deeper layers have up to four times as many.
        latent_dim: length of the latent vector.

    Raises:
        ConfigError: the frame's size, the width or the latent's length is impossible.
    """

    def __init__(self, image_size: int = 256, width: int = 32, latent_dim: int = 128) -> None:
        super().__init__()
        _check(image_size, width, latent_dim)
        side = image_size // SIZE_STEP
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, kernel_size=8, stride=4, padding=2),
            _norm_act(width),
            _Down(width, 2 * width),
            _Down(2 * width, 4 * width),
            _Down(4 * width, 4 * width),
            nn.Flatten(),
            nn.Linear(4 * width * side * side, latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 4 * width * side * side),
            nn.Unflatten(1, (4 * width, side, side)),
            _norm_act(4 * width),
            _Up(4 * width, 4 * width),
            _Up(4 * width, 2 * width),
            _Up(2 * width, width),
            _Head(width, width // 2),
        )

    def encode(self, frame: Tensor) -> Tensor:
        """Frames [B, 1, S, S] with intensity in [0, 1] → latents [B, latent_dim]."""
        return cast(Tensor, self.encoder(frame))

    def decode(self, latent: Tensor) -> Tensor:
        """Latents [B, latent_dim] → frames [B, 1, S, S] with intensity in [0, 1]."""
        return cast(Tensor, self.decoder(latent))

    def forward(self, frame: Tensor) -> Tensor:
        """The frame's reconstruction, [B, 1, S, S]."""
        return self.decode(self.encode(frame))


class _Residual(nn.Module):
    """x + f(x), with f a convolution, a norm and an activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            _norm_act(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.body(x))


class _Down(nn.Sequential):
    """Halves the resolution, then refines."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1),
            _norm_act(outputs),
            _Residual(outputs),
        )


class _Up(nn.Sequential):
    """Doubles the resolution bilinearly, which leaves no checkerboard, then refines."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1),
            _norm_act(outputs),
        )


class _Head(nn.Sequential):
    """Quarter-resolution features → one full-resolution channel in [0, 1], without a norm where that would cost most.

    The last doubling is sub-pixel: four interleaved 3×3 convolutions (Shi et al. 2016). They start equal (ICNR, Aitken
    et al. 2017), so that the untrained head draws no checkerboard.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        interleaved = nn.Conv2d(channels, 4, kernel_size=3, padding=1)
        with torch.no_grad():
            for parameter in interleaved.parameters():
                parameter.copy_(parameter[:1].clone().expand_as(parameter))
        super().__init__(
            nn.Conv2d(inputs, channels, kernel_size=3, padding=1),
            nn.SiLU(),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            interleaved,
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )


def _norm_act(channels: int) -> nn.Sequential:
    """One group makes a step on a CPU a fifth faster than eight and learns no worse; SiLU learns faster than ReLU."""
    return nn.Sequential(nn.GroupNorm(1, channels), nn.SiLU())


def _check(image_size: int, width: int, latent_dim: int) -> None:
    if image_size < SMALLEST_SIZE or image_size % SIZE_STEP:
        raise ConfigError(
            f"image_size is {image_size}; a frame's side must be a multiple of {SIZE_STEP} from {SMALLEST_SIZE}, "
            "for example 256: the encoder halves five times, and MS-SSIM needs five scales."
        )
    if width < 8 or width % 8:
        raise ConfigError(f"width is {width}; the number of channels must be a multiple of 8 from 8, for example 32.")
    if latent_dim < 1:
        raise ConfigError(f"latent_dim is {latent_dim}; the latent must have at least one dimension.")
