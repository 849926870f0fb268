"""Training objectives, each a `pyro.infer.ELBO` with named terms."""

from pyro_bvae.objectives.adversarial import AdversarialELBO
from pyro_bvae.objectives.base import Estimate, Objective, Weighed
from pyro_bvae.objectives.capacity import CapacityELBO
from pyro_bvae.objectives.elbo import ELBO
from pyro_bvae.objectives.factor import FactorELBO
from pyro_bvae.objectives.importance import ImportanceELBO
from pyro_bvae.objectives.mmd import MMDELBO
from pyro_bvae.objectives.moment import MomentELBO
from pyro_bvae.objectives.total_correlation import TotalCorrelationELBO

__all__ = [
    "ELBO",
    "MMDELBO",
    "AdversarialELBO",
    "CapacityELBO",
    "Estimate",
    "FactorELBO",
    "ImportanceELBO",
    "MomentELBO",
    "Objective",
    "TotalCorrelationELBO",
    "Weighed",
]
