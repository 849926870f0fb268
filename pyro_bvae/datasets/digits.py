"""Real handwritten digits that come with scikit-learn: no file to fetch."""

from __future__ import annotations

import torch

from pyro_bvae.datasets.labelled import LabelledImages

_TRAINING = 1437
_SPLITS = {"all": slice(None), "train": slice(_TRAINING), "test": slice(_TRAINING, None)}


def digits(split: str = "all") -> LabelledImages:
    r"""The 1797 handwritten digits of scikit-learn, 8×8 pixels of 17 grey levels in [0, 1].

    `split` takes the first 1437 images (`"train"`), the last 360 (`"test"`) or `"all"`, in the
    order of the file.

    Raises:
        ValueError: another split.

    Reference:
        Alpaydin, Kaynak 1998, "Cascading Classifiers".

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
    labels = torch.as_tensor(data.target)
    return LabelledImages(images[_SPLITS[split]], labels[_SPLITS[split]])
