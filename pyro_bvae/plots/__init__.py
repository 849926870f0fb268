"""Pictures: arrays in, matplotlib axes out, never shown. One picture per function."""

from pyro_bvae.plots.beta_sigma import (
    beta_against_prior,
    beta_scale_map,
    equal_mean_curves,
    rate_distortion,
)
from pyro_bvae.plots.calibration import coverage_curve, expected_coverage, rank_distribution
from pyro_bvae.plots.collapse import latent_information, latent_variances, surgery_bars
from pyro_bvae.plots.densities import aggregate_and_prior, density_regions
from pyro_bvae.plots.factors import factor_matrix
from pyro_bvae.plots.history import history_curve, history_quantities, training_history
from pyro_bvae.plots.images import are_images, image_grid, reconstructions, traversals
from pyro_bvae.plots.latents import kl_per_latent
from pyro_bvae.plots.posterior import (
    evidence_bounds,
    evidence_gaps,
    pareto_shapes,
    worst_data,
)
from pyro_bvae.plots.reference import distance_to_reference, guide_and_reference
from pyro_bvae.plots.scores import metric_scores

__all__ = [
    "aggregate_and_prior",
    "are_images",
    "beta_against_prior",
    "beta_scale_map",
    "coverage_curve",
    "density_regions",
    "distance_to_reference",
    "equal_mean_curves",
    "evidence_bounds",
    "evidence_gaps",
    "expected_coverage",
    "factor_matrix",
    "guide_and_reference",
    "history_curve",
    "history_quantities",
    "image_grid",
    "kl_per_latent",
    "latent_information",
    "latent_variances",
    "metric_scores",
    "pareto_shapes",
    "rank_distribution",
    "rate_distortion",
    "reconstructions",
    "surgery_bars",
    "training_history",
    "traversals",
    "worst_data",
]
