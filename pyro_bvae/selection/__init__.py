"""Choosing β and σ: studies over a grid, and the β of a given rate."""

from pyro_bvae.selection.importance import importance_bound
from pyro_bvae.selection.rate import RateSearch, beta_for_rate
from pyro_bvae.selection.study import beta_sigma_study, latent_table

__all__ = [
    "RateSearch",
    "beta_for_rate",
    "beta_sigma_study",
    "importance_bound",
    "latent_table",
]
