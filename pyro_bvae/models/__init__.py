"""Models: pairs of Pyro functions built from a prior, a likelihood and a posterior."""

from pyro_bvae.models.traversal import prior_values, traverse
from pyro_bvae.models.vae import VAE

__all__ = ["VAE", "prior_values", "traverse"]
