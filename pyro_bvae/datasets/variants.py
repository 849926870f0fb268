"""Harder versions of one-channel data: a random colour, a noisy background."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.datasets.factors import FactorDataset


class _Randomised(FactorDataset):
    """Three channels from the one of `data`, with numbers drawn from the seed and the index.

    Each image has a stream of its own, Philox with the key (seed, index), so that the same
    index gives the same image in any batch, subset or process.
    """

    def __init__(self, data: FactorDataset, *, seed: int) -> None:
        if len(data.shape) != 3 or data.shape[0] != 1:
            raise ValueError(
                f"data: expected images [1, height, width] of one channel, got {data.shape}."
            )
        if not isinstance(seed, int) or not 0 <= seed < 2**64:
            raise ValueError(f"seed: expected an integer from 0 to below 2^64, got {seed!r}.")
        super().__init__(
            data.factor_names,
            data.factor_sizes,
            (3, *data.shape[1:]),
            factor_values=data.factor_values,
            combinations=data.combinations,
        )
        self.parent = data
        self.seed = seed

    def _uniforms(self, indices: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Numbers `[n, *shape]` uniform on [0, 1), a function of seed and index."""
        drawn = np.empty((len(indices), *shape), np.float32)
        for row, index in zip(drawn, self._checked(indices).tolist(), strict=True):
            key = np.array([self.seed, index], np.uint64)
            np.random.Generator(np.random.Philox(key=key)).random(out=row, dtype=np.float32)
        return torch.from_numpy(drawn).to(torch.get_default_dtype())


class Coloured(_Randomised):
    r"""The images of `data` `[1, height, width]`, each in a random colour: Color-dSprites.

    $x_c = x\, u_c$ for the three channels $c$, with $u_c$ uniform on [½, 1]: the background
    stays black. The colour is none of the factors; it is a function of the index and the seed.

    Args:
        data: images of one channel, such as :class:`Sprites`.
        seed: of the colours.

    Raises:
        ValueError: images of more channels, a seed that is no integer from 0.

    Reference:
        Locatello, Bauer, Lucic, Rätsch, Gelly, Schölkopf, Bachem 2019, "Challenging common
        assumptions in the unsupervised learning of disentangled representations".

    Example:
        >>> from pyro_bvae.datasets import Sprites
        >>> image = Coloured(Sprites(), seed=0)[0]
        >>> image.shape, image.flatten(1).unique(dim=1).shape
        (torch.Size([3, 64, 64]), torch.Size([3, 2]))
    """

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 3, height, width]` at `indices` `[n]`."""
        colours = (1 + self._uniforms(indices, (3, 1, 1))) / 2
        return self.parent.images(indices) * colours


class Noisy(_Randomised):
    r"""The images of `data` `[1, height, width]` on a background of noise: Noisy-dSprites.

    $x_c = \min(x + u_c, 1)$ with $u_c$ uniform on [0, 1], independent for every pixel and each
    of the three channels $c$: where the sprite is 1 it stays white. The noise is a function of
    the index and the seed.

    Args:
        data: images of one channel, such as :class:`Sprites`.
        seed: of the noise.

    Raises:
        ValueError: images of more channels, a seed that is no integer from 0.

    Reference:
        Locatello, Bauer, Lucic, Rätsch, Gelly, Schölkopf, Bachem 2019, "Challenging common
        assumptions in the unsupervised learning of disentangled representations".

    Example:
        >>> from pyro_bvae.datasets import Sprites
        >>> noisy = Noisy(Sprites(), seed=0)
        >>> bool((noisy[7] == noisy[torch.tensor([3, 7])][1]).all())
        True
    """

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 3, height, width]` at `indices` `[n]`."""
        noise = self._uniforms(indices, self.shape)
        return noise.add_(self.parent.images(indices)).clamp_(max=1)
