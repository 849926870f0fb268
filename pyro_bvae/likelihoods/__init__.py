"""Likelihoods p(x|z): modules that return distributions."""

from pyro_bvae.likelihoods.base import Likelihood
from pyro_bvae.likelihoods.bernoulli import BernoulliLikelihood
from pyro_bvae.likelihoods.categorical import CategoricalLikelihood
from pyro_bvae.likelihoods.continuous_bernoulli import ContinuousBernoulliLikelihood
from pyro_bvae.likelihoods.laplace import LaplaceLikelihood
from pyro_bvae.likelihoods.logistic import LogisticMixtureLikelihood
from pyro_bvae.likelihoods.normal import NormalLikelihood

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "ContinuousBernoulliLikelihood",
    "LaplaceLikelihood",
    "Likelihood",
    "LogisticMixtureLikelihood",
    "NormalLikelihood",
]
