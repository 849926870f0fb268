"""Data: anything with `len(data)` and `data[indices]`, where `indices` is a 1-d LongTensor."""

from pyro_bvae.datasets.factors import FactorDataset, FactorSample
from pyro_bvae.datasets.sprites import Sprites

__all__ = ["FactorDataset", "FactorSample", "Sprites"]
