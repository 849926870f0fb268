"""Amortised posteriors q(z|x): modules that return distributions."""

from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.posteriors.base import Posterior
from pyro_bvae.posteriors.flow import FlowPosterior
from pyro_bvae.posteriors.full_rank import FullRankPosterior
from pyro_bvae.posteriors.low_rank import LowRankPosterior
from pyro_bvae.posteriors.mean_field import MeanFieldPosterior
from pyro_bvae.posteriors.mixture import MixturePosterior
from pyro_bvae.posteriors.refined import RefinedPosterior

__all__ = [
    "AmortisedPosterior",
    "FlowPosterior",
    "FullRankPosterior",
    "LowRankPosterior",
    "MeanFieldPosterior",
    "MixturePosterior",
    "Posterior",
    "RefinedPosterior",
]
