"""Likelihoods p(x|z): modules that return distributions."""

from pyro_bvae.likelihoods.base import Likelihood
from pyro_bvae.likelihoods.bernoulli import BernoulliLikelihood
from pyro_bvae.likelihoods.normal import NormalLikelihood

__all__ = ["BernoulliLikelihood", "Likelihood", "NormalLikelihood"]
