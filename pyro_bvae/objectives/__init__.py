"""Training objectives, each a `pyro.infer.ELBO` with named terms."""

from pyro_bvae.objectives.base import Estimate, Objective
from pyro_bvae.objectives.elbo import ELBO

__all__ = ["ELBO", "Estimate", "Objective"]
