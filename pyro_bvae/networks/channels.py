"""Several numbers for every pixel, out of a decoder that knows channels only."""

from torch import Tensor, nn

from pyro_bvae.checks import check_count


class ChannelsLast(nn.Module):
    """A decoder's `[n, channels · numbers, *size]` as `[n, channels, *size, numbers]`.

    What `CategoricalLikelihood` (numbers = classes) and `LogisticMixtureLikelihood` (numbers =
    3 · components) take, from a convolutional decoder. Further arguments go to the decoder.

    Args:
        decoder: from z `[n, latents]` to `[n, channels · numbers, *size]`.
        numbers: how many for each pixel.

    Raises: ValueError if `numbers` < 1, or, when called, if it does not divide the channels.

    >>> import torch
    >>> from pyro_bvae.networks import conv_decoder
    >>> decoder = ChannelsLast(conv_decoder(2, (3 * 15, 16, 16)), numbers=15)
    >>> decoder(torch.zeros(5, 2)).shape
    torch.Size([5, 3, 16, 16, 15])
    """

    def __init__(self, decoder: nn.Module, *, numbers: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.numbers = check_count(numbers, "numbers")

    def forward(self, z: Tensor, *context: Tensor) -> Tensor:
        """Return the numbers of every pixel."""
        out = self.decoder(z, *context)
        if out.shape[1] % self.numbers:
            raise ValueError(
                f"numbers: expected a divisor of the decoder's {out.shape[1]} channels, "
                f"got {self.numbers}"
            )
        return out.unflatten(1, (-1, self.numbers)).movedim(2, -1)
