"""The codes of a data set's images, each image encoded once."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine
from torch import Tensor, nn

from pyro_bvae.models import VAE
from pyro_bvae.training.allocator import kept_memory
from pyro_bvae.training.source import device_of, evaluating, own_randomness, read
from pyro_bvae.types import HasPair, PairLike, as_pair

Encoder = Callable[..., Tensor]
Encodes = PairLike | Encoder
"""A `VAE`, any pair with a site "z" in its guide, or a function of images that gives codes."""


class ImageCodes:
    """The codes `[n, latents]` of the images at indices `[n]`, kept once they are known.

    Modules are in evaluation mode while they encode, nothing keeps gradients, and torch's random
    state stays as it was.

    Args:
        pair: a `VAE`, whose codes are E[z|x]; any `(model, guide)`, whose codes are the mean of
            the guide's site "z"; or a function from images `[n, *shape]` to codes `[n, latents]`.
        data: a data set or tensor; `len(data)` of them, `data[indices]` for a batch.
        batch_size: the most images in one call of the encoder.

    Raises:
        TypeError: `pair` is none of these.
        ValueError, when called: codes that are not finite `[n, latents]`, a guide without the
            site "z" or without a mean there.

    >>> data = torch.arange(6.0).reshape(3, 2)
    >>> calls = []
    >>> codes = ImageCodes(lambda x: calls.append(len(x)) or 2 * x, data)
    >>> codes(torch.tensor([2, 0, 2])).tolist(), codes(torch.tensor([0])).tolist(), calls
    ([[8.0, 10.0], [0.0, 2.0], [8.0, 10.0]], [[0.0, 2.0]], [2])
    """

    def __init__(self, pair: Encodes, data: Any, *, batch_size: int = 256) -> None:
        self.encode = encoder(pair)
        self.modules = cast(Any, _modules(pair))
        self.device = device_of(self.modules)
        self.data = data
        self.batch_size = batch_size
        self._known = torch.zeros(len(data), dtype=torch.bool)
        self._table: NDArray[Any] | None = None

    def __call__(self, indices: Tensor) -> NDArray[Any]:
        """The codes `[n, latents]`, in the dtype of the encoder."""
        wanted = indices.unique()
        new = wanted[~self._known[wanted]]
        with (
            kept_memory(),
            evaluating(self.modules),
            own_randomness(self.device, 0),
            torch.no_grad(),
        ):
            for part in new.split(self.batch_size) if len(new) else ():
                codes = _checked(self.encode(*read(self.data, part, self.modules)), len(part))
                if self._table is None:
                    self._table = np.empty((len(self.data), codes.shape[1]), dtype=codes.dtype)
                self._table[part.numpy()] = codes
                self._known[part] = True
        if self._table is None:
            raise ValueError("indices: expected at least one image, got none")
        return self._table[indices.numpy()]


def encoder(pair: Encodes) -> Encoder:
    """Read a function of images that gives codes from a pair, or return the one given.

    Raises: TypeError if it is neither.
    """
    if isinstance(pair, VAE):
        return pair.encode
    if isinstance(pair, HasPair | tuple):
        guide = as_pair(pair).guide
        return lambda *batch: _guide_mean(guide, *batch)
    if callable(pair):
        return pair
    raise TypeError(
        "pair: expected a VAE, a pair (model, guide) or a function from images to codes, got "
        f"{type(pair).__name__}"
    )


def _guide_mean(guide: Callable[..., Any], *batch: Tensor) -> Tensor:
    sites: dict[str, Any] = poutine.trace(guide).get_trace(*batch).nodes
    if "z" not in sites:
        raise ValueError(
            f"guide: expected a latent site 'z', got sites {sorted(set(sites) - {'_INPUT'})}; "
            "pass a function from images to codes in place of the pair"
        )
    try:
        mean = sites["z"]["fn"].mean
    except NotImplementedError as error:
        raise ValueError(
            f"guide: expected a distribution with a mean at site 'z', got {sites['z']['fn']}; "
            "pass a function from images to codes in place of the pair"
        ) from error
    return mean[:, None] if mean.dim() == 1 else mean


def _checked(codes: Tensor, images: int) -> NDArray[Any]:
    array = np.asarray(codes.detach().cpu() if isinstance(codes, Tensor) else codes)
    if array.ndim != 2 or len(array) != images or not np.isfinite(array).all():
        raise ValueError(
            f"codes: expected finite numbers [{images}, latents] for {images} images, got shape "
            f"{list(array.shape)}" + ("" if np.isfinite(array).all() else " with NaN or infinity")
        )
    return array


def _modules(pair: Any) -> nn.ModuleList:
    """The modules that a pair or a function is, wraps, or is a method of."""
    parts = [pair, *(as_pair(pair) if isinstance(pair, HasPair | tuple) else ())]
    layers = [layer for part in parts for layer in _layers(part)]
    owners = [getattr(layer, "__self__", None) for layer in layers]
    return nn.ModuleList(found for found in [*layers, *owners] if isinstance(found, nn.Module))


def _layers(function: Any) -> Iterator[Any]:
    """A function, the one it wraps, the one that wraps, and so on."""
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)
