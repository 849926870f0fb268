"""Cars3D: renderings of cars from all sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.datasets.pixels import as_images, resized

_AZIMUTHS, _ELEVATIONS = 24, 4
_SHAPE = (128, 128, 3, _AZIMUTHS, _ELEVATIONS)
_SIZE = 64


class Cars3D(FactorDataset):
    """The 17,568 images of Cars3D: 183 cars from 24 azimuths and 4 elevations, 64×64, in colour.

    Read from a folder of MATLAB files, one for each car in the order of their names, with an
    array `im` `[128, 128, 3, azimuth, elevation]` of bytes. Every image is resized to 64×64
    (Lanczos) and held in memory as bytes: 216 MB as published. The factors are elevation,
    azimuth and car, the last varying fastest; the number of cars is that of the files.

    Args:
        folder: with the files, such as `data/cars` of the published archive.

    Raises:
        FileNotFoundError: no folder, or no file `*.mat` in it.
        ValueError: a damaged file, no array `im`, one of another type or shape.

    Reference:
        Reed, Zhang, Zhang, Lee 2015, "Deep visual analogy-making".
    """

    def __init__(self, folder: str | Path) -> None:
        files = sorted(Path(folder).glob("*.mat"))
        if not files:
            raise FileNotFoundError(
                f"folder: expected a folder of *.mat files, found none in {folder}."
            )
        pixels = np.empty((_ELEVATIONS, _AZIMUTHS, len(files), _SIZE, _SIZE, 3), np.uint8)
        for car, file in enumerate(files):
            pixels[:, :, car] = _views(file)
        self._pixels = pixels.reshape(-1, *pixels.shape[3:])
        super().__init__(("elevation", "azimuth", "car"), pixels.shape[:3], (3, _SIZE, _SIZE))

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 3, 64, 64]` at `indices` `[n]`, in [0, 1]."""
        return as_images(self._pixels[self._checked(indices).numpy()])


def _views(file: Path) -> np.ndarray:
    """The images of one car `[elevation, azimuth, 64, 64, 3]`."""
    from scipy.io import loadmat

    try:
        arrays = loadmat(file, variable_names=["im"])
    except Exception as error:  # SciPy's parser names no set of errors for a damaged file
        raise ValueError(f"{file}: damaged file, fetch it again ({error!r}).") from error
    if "im" not in arrays:
        raise ValueError(f"{file}: no array 'im'. Keep other files out of the folder.")
    views = arrays["im"]
    if views.dtype != np.uint8 or views.shape != _SHAPE:
        raise ValueError(f"{file}: im: expected uint8 {_SHAPE}, got {views.dtype} {views.shape}.")
    flat = views.transpose(4, 3, 0, 1, 2).reshape(-1, *_SHAPE[:3])
    return resized(flat, _SIZE).reshape(_ELEVATIONS, _AZIMUTHS, _SIZE, _SIZE, 3)
