"""Data: anything with `len(data)` and `data[indices]`, where `indices` is a 1-d LongTensor."""

from pyro_bvae.datasets.arrays import Batch, Source, as_source
from pyro_bvae.datasets.cars3d import Cars3D
from pyro_bvae.datasets.combinations import Combinations, Grid, Rows
from pyro_bvae.datasets.correlated import Correlated
from pyro_bvae.datasets.digits import digits
from pyro_bvae.datasets.factors import FactorDataset, FactorSample, FactorSubset
from pyro_bvae.datasets.files import DSpritesFile
from pyro_bvae.datasets.images import ImageFiles, image_folder
from pyro_bvae.datasets.labelled import LabelledImages
from pyro_bvae.datasets.mpi3d import MPI3DFile
from pyro_bvae.datasets.norb import SmallNORB
from pyro_bvae.datasets.shapes3d import Shapes3DFile
from pyro_bvae.datasets.sprites import Sprites
from pyro_bvae.datasets.table import FactorTable
from pyro_bvae.datasets.variants import Coloured, Noisy
from pyro_bvae.datasets.vision import celeba, fashion_mnist, mnist

__all__ = [
    "Batch",
    "Cars3D",
    "Coloured",
    "Combinations",
    "Correlated",
    "DSpritesFile",
    "FactorDataset",
    "FactorSample",
    "FactorSubset",
    "FactorTable",
    "Grid",
    "ImageFiles",
    "LabelledImages",
    "MPI3DFile",
    "Noisy",
    "Rows",
    "Shapes3DFile",
    "SmallNORB",
    "Source",
    "Sprites",
    "as_source",
    "celeba",
    "digits",
    "fashion_mnist",
    "image_folder",
    "mnist",
]
