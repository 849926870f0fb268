"""Real handwritten digits that come with scikit-learn: no file to fetch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_TRAINING = 1437
_SPLITS = {"all": slice(None), "train": slice(_TRAINING), "test": slice(_TRAINING, None)}


class Digits(NamedTuple):
    """Images `[n, 1, 8, 8]` in [0, 1] and the digits `[n]` they show; a source of images as
    `digits().images`, of pairs as `as_source(digits())`.
    """

    images: Tensor
    labels: Tensor


def digits(split: str = "all") -> Digits:
    r"""The 1797 handwritten digits of scikit-learn, 8×8 pixels of 17 grey levels in [0, 1].

    `split` takes the first 1437 images (`"train"`), the last 360 (`"test"`) or `"all"`. The
    writers of the two parts overlap little, so the test part is the harder one.

    Raises:
        ValueError: another split.

    Reference:
        Alpaydin, Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI.

    Example:
        >>> images, labels = digits("train")
        >>> images.shape, labels[:3].tolist()
        (torch.Size([1437, 1, 8, 8]), [0, 1, 2])
    """
    from sklearn.datasets import load_digits

    if split not in _SPLITS:
        raise ValueError(f"split: expected one of {tuple(_SPLITS)}, got {split!r}.")
    data = load_digits()
    images = torch.as_tensor(data.images, dtype=torch.get_default_dtype())[:, None] / 16
    return Digits(images[_SPLITS[split]], torch.as_tensor(data.target)[_SPLITS[split]])
