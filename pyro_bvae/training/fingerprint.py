"""What data are told apart by: their shape, dtype, and a few of them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.datasets.arrays import Source
from pyro_bvae.training.randomness import foreign_randomness_kept
from pyro_bvae.training.source import own_randomness
from pyro_bvae.training.words import digest, outline

READINGS = 4


def fingerprint(source: Source, device: torch.device | None = None) -> str:
    """Return dtype and shape of a datum, and a hash of the first, the middle and the last.

    All random states but those of the source's own stay as they were. Where the same data come
    out differently when they are read again, such as by random crops, there is no hash.

    >>> fingerprint(torch.zeros(5, 3))
    'float32 [3], sha256 6db65fd59fd356f6'
    """
    rows = torch.tensor(sorted({0, len(source) // 2, len(source) - 1}))
    readings = [_parts(source, rows, device) for _ in range(READINGS)]
    kinds = " and ".join(outline(part[0]) for part in readings[0])
    hashes = {digest(*parts) for parts in readings}
    return f"{kinds}, " + (f"sha256 {hashes.pop()}" if len(hashes) == 1 else "drawn anew")


def _parts(source: Source, rows: Tensor, device: torch.device | None) -> tuple[Tensor, ...]:
    with own_randomness(device, seed=0), _seeded():
        batch = source[rows]
    return batch if isinstance(batch, tuple) else (batch,)


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed the generators of Python and NumPy, and put them back as they were."""
    with foreign_randomness_kept():
        random.seed(0)
        np.random.seed(0)
        yield
