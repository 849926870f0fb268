"""Amortised posteriors q(z|x): modules that return distributions."""

from pyro_bvae.posteriors.base import Posterior
from pyro_bvae.posteriors.mean_field import MeanFieldPosterior

__all__ = ["MeanFieldPosterior", "Posterior"]
