"""Pixels of 8 bits to images in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def as_images(pixels: np.ndarray) -> Tensor:
    """Images `[n, channels, height, width]` in [0, 1] from bytes `[n, height, width, channels]`."""
    channels_first = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return channels_first.to(torch.get_default_dtype()) / 255


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Bytes `[n, size, size, …]` from `[n, height, width, …]`: Lanczos, antialiased."""
    shape, how = (size, size), Image.Resampling.LANCZOS
    small = [np.asarray(Image.fromarray(image).resize(shape, how)) for image in pixels]
    return np.stack(small) if small else np.empty((0, *shape, *pixels.shape[3:]), np.uint8)
