"""Images with the class each one shows."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LabelledImages(NamedTuple):
    """Images `[n, *shape]` in [0, 1] and their classes `[n]`.

    `.images` is a data source of images; the whole, through `as_source`, one of pairs.
    """

    images: Tensor
    labels: Tensor
