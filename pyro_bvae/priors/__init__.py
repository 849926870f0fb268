"""Priors p(z): modules that return distributions."""

from pyro_bvae.priors.base import Prior
from pyro_bvae.priors.normal import NormalPrior

__all__ = ["NormalPrior", "Prior"]
