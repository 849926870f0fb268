"""Models: pairs of Pyro functions built from a prior, a likelihood and a posterior."""

from pyro_bvae.models.bottleneck import InformationBottleneck
from pyro_bvae.models.conditional import ConditionalVAE
from pyro_bvae.models.hierarchical import HierarchicalVAE
from pyro_bvae.models.joint import JointVAE
from pyro_bvae.models.one_hot import Classifier
from pyro_bvae.models.partial_factors import PartialFactorsVAE
from pyro_bvae.models.semi_supervised import SemiSupervisedVAE
from pyro_bvae.models.traversal import prior_values, traverse
from pyro_bvae.models.vae import VAE

__all__ = [
    "VAE",
    "Classifier",
    "ConditionalVAE",
    "HierarchicalVAE",
    "InformationBottleneck",
    "JointVAE",
    "PartialFactorsVAE",
    "SemiSupervisedVAE",
    "prior_values",
    "traverse",
]
