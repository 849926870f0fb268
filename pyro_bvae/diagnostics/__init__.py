"""What a trained pair is worth, measured: its codes against known factors, its posterior."""

from pyro_bvae.diagnostics.amortization import AmortizationGap, amortization_gap
from pyro_bvae.diagnostics.calibration import Calibration, calibration
from pyro_bvae.diagnostics.codes import ImageCodes
from pyro_bvae.diagnostics.collapse import Collapse, collapse
from pyro_bvae.diagnostics.comparison import Comparison, compare_to_reference
from pyro_bvae.diagnostics.disentanglement import (
    DisentanglementScores,
    Row,
    disentanglement_scores,
)
from pyro_bvae.diagnostics.evidence import Finding
from pyro_bvae.diagnostics.importance import Importance, importance
from pyro_bvae.diagnostics.inference_data import to_inference_data
from pyro_bvae.diagnostics.information import Bracketed, Surgery, elbo_surgery
from pyro_bvae.diagnostics.likelihood import (
    LogEvidence,
    Sandwich,
    evidence_sandwich,
    log_evidence,
)
from pyro_bvae.diagnostics.pair import PairCheck, check_pair
from pyro_bvae.diagnostics.reference import Reference, reference_posterior
from pyro_bvae.diagnostics.two_sample import TwoSample, energy_test, mmd_test

__all__ = [
    "AmortizationGap",
    "Bracketed",
    "Calibration",
    "Collapse",
    "Comparison",
    "DisentanglementScores",
    "Finding",
    "ImageCodes",
    "Importance",
    "LogEvidence",
    "PairCheck",
    "Reference",
    "Row",
    "Sandwich",
    "Surgery",
    "TwoSample",
    "amortization_gap",
    "calibration",
    "check_pair",
    "collapse",
    "compare_to_reference",
    "disentanglement_scores",
    "elbo_surgery",
    "energy_test",
    "evidence_sandwich",
    "importance",
    "log_evidence",
    "mmd_test",
    "reference_posterior",
    "to_inference_data",
]
