"""The β-VAE and its family in Pyro: models, guides, β, σ, objectives and SVI."""

from pyro_bvae.beta import tempered, untempered
from pyro_bvae.models import VAE
from pyro_bvae.training import evaluate, fit
from pyro_bvae.types import Pair

__all__ = ["VAE", "Pair", "evaluate", "fit", "tempered", "untempered"]
