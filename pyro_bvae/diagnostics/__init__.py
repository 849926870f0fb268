"""What a trained pair is worth, measured: its codes against known factors."""

from pyro_bvae.diagnostics.codes import ImageCodes
from pyro_bvae.diagnostics.disentanglement import (
    DisentanglementScores,
    Row,
    disentanglement_scores,
)
from pyro_bvae.diagnostics.pair import PairCheck, check_pair

__all__ = [
    "DisentanglementScores",
    "ImageCodes",
    "PairCheck",
    "Row",
    "check_pair",
    "disentanglement_scores",
]
