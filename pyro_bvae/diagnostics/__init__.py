"""What a trained pair is worth, measured: its codes against known factors."""

from pyro_bvae.diagnostics.codes import ImageCodes
from pyro_bvae.diagnostics.disentanglement import (
    DisentanglementScores,
    Row,
    disentanglement_scores,
)

__all__ = ["DisentanglementScores", "ImageCodes", "Row", "disentanglement_scores"]
