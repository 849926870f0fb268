"""Image files, read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_MODES = {1: "L", 3: "RGB"}
_DEEP = frozenset({"I", "I;16", "I;16B", "I;16L", "F"})


class ImageFiles:
    """Image files as a source of batches, read, cropped and resized when they are asked for.

    The central square of each image, as large as fits or `crop` pixels wide, is resized to
    `size` (bilinear, antialiased) and its 8-bit pixels divided by 255.

    Args:
        paths: the files, in order.
        size: the width and height of the images given.
        channels: 3 for colour, 1 for grey.
        crop: the side of the central square in pixels of the file.

    Raises:
        ValueError: numbers out of range; at reading, a file that is damaged, smaller than
            `crop`, or of more than 8 bits a channel.
    """

    def __init__(
        self, paths: Sequence[Path], *, size: int, channels: int = 3, crop: int | None = None
    ) -> None:
        if channels not in _MODES:
            raise ValueError(f"channels: expected 3 (colour) or 1 (grey), got {channels!r}.")
        for name, number in (("size", size), ("crop", crop)):
            if number is not None and number < 1:
                raise ValueError(f"{name}: expected at least 1 pixel, got {number}.")
        self.paths = tuple(paths)
        self.shape = (channels, size, size)
        self.crop = crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int | Tensor) -> Tensor:
        """One image `[channels, size, size]`, or a batch for a 1-d index tensor."""
        if isinstance(index, Tensor) and index.dim() > 0:
            return torch.stack([self._read(self.paths[i]) for i in index.tolist()])
        return self._read(self.paths[int(index)])

    def _read(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as file:
                pixels = np.array(self._square(file))
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"{path}: expected a readable image, got: {error}. Replace or remove the file."
            ) from error
        channels = torch.from_numpy(pixels).reshape(*self.shape[1:], -1).permute(2, 0, 1)
        return channels.to(torch.get_default_dtype()) / 255

    def _square(self, file: Image.Image) -> Image.Image:
        side = self.crop or min(file.size)
        if file.mode in _DEEP or side > min(file.size):
            raise ValueError(
                f"an image of mode {file.mode} and {file.width}×{file.height} pixels, where 8 bits "
                f"a channel and a square of {side} pixels are needed"
            )
        left, top = (file.width - side) // 2, (file.height - side) // 2
        square = file.convert(_MODES[self.shape[0]]).crop((left, top, left + side, top + side))
        return square.resize(self.shape[1:], Image.Resampling.BILINEAR)


def image_folder(path: str | Path, *, size: int, channels: int = 3) -> ImageFiles:
    """The images of a folder and the folders in it, in the order of their names.

    The central square of each is resized to `size` when it is read: see :class:`ImageFiles`.

    Raises:
        ValueError: no folder, or no image in it; at reading, a damaged file, by its name.
    """
    folder = Path(path)
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not found:
        raise ValueError(
            f"path: expected a folder with images ({', '.join(sorted(_SUFFIXES))}), "
            f"found none in {folder}."
        )
    return ImageFiles(found, size=size, channels=channels)
