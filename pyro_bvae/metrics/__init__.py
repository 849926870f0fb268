"""Disentanglement metrics: arrays of codes and factors in, numbers out."""

from pyro_bvae.metrics.beta_vae import BetaVAEScore, beta_vae_score
from pyro_bvae.metrics.dci import DCIScore, dci, dci_forest, dci_histogram, disentanglement
from pyro_bvae.metrics.explicitness import ExplicitnessScore, explicitness
from pyro_bvae.metrics.factor_vae import FactorVAEScore, factor_vae_score
from pyro_bvae.metrics.information import entropy, mutual_information_matrix, r2_matrix
from pyro_bvae.metrics.irs import IRSScore, irs
from pyro_bvae.metrics.mig import MIGScore, mig, mig_knn
from pyro_bvae.metrics.modularity import ModularityScore, modularity
from pyro_bvae.metrics.sap import SAPScore, sap
from pyro_bvae.metrics.score import Score
from pyro_bvae.metrics.udr import UDRScore, udr
from pyro_bvae.metrics.unsupervised import (
    PairwiseInformationScore,
    TotalCorrelationScore,
    pairwise_information_score,
    total_correlation_score,
)

__all__ = [
    "BetaVAEScore",
    "DCIScore",
    "ExplicitnessScore",
    "FactorVAEScore",
    "IRSScore",
    "MIGScore",
    "ModularityScore",
    "PairwiseInformationScore",
    "SAPScore",
    "Score",
    "TotalCorrelationScore",
    "UDRScore",
    "beta_vae_score",
    "dci",
    "dci_forest",
    "dci_histogram",
    "disentanglement",
    "entropy",
    "explicitness",
    "factor_vae_score",
    "irs",
    "mig",
    "mig_knn",
    "modularity",
    "mutual_information_matrix",
    "pairwise_information_score",
    "r2_matrix",
    "sap",
    "total_correlation_score",
    "udr",
]
