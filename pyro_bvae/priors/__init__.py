"""Priors p(z): modules that return distributions."""

from pyro_bvae.priors.base import Prior
from pyro_bvae.priors.conditional import ConditionalPrior
from pyro_bvae.priors.flow import FlowPrior
from pyro_bvae.priors.laplace import LaplacePrior
from pyro_bvae.priors.mixture import MixturePrior
from pyro_bvae.priors.normal import NormalPrior
from pyro_bvae.priors.student_t import StudentTPrior
from pyro_bvae.priors.vamp import VampPrior

__all__ = [
    "ConditionalPrior",
    "FlowPrior",
    "LaplacePrior",
    "MixturePrior",
    "NormalPrior",
    "Prior",
    "StudentTPrior",
    "VampPrior",
]
