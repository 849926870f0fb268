"""Images in memory with their channels last, where convolutions on a CPU are fastest."""

from torch import Tensor, nn

from pyro_bvae.images import channels_last


class FromImages(nn.Sequential):
    """Layers, one after the other, that get images `[n, channels, h, w]` in a fast layout."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what the last layer gives."""
        return super().forward(_fast(input))


class ToImages(nn.Unflatten):
    """`nn.Unflatten` to images `[n, channels, h, w]` in a fast layout."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the images."""
        return _fast(super().forward(input))


def _fast(x: Tensor) -> Tensor:
    return channels_last(x) if x.device.type == "cpu" and x.dim() == 4 else x
