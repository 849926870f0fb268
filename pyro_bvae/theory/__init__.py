"""What is known exactly: the linear β-VAE, β and σ, rate and distortion, in closed form.

Pure functions of tensors, in nats, float64 where the arguments are. Scales are σ, as in
`NormalPrior(scale=)` and `NormalLikelihood(scale=)`; r = σ_z² and s = σ_x² are their variances.
"""

from pyro_bvae.theory.bottleneck import (
    GaussianBottleneck,
    canonical_correlations,
    gaussian_bottleneck,
)
from pyro_bvae.theory.constrained import (
    unit_norm_rates,
    weight_decay_singular_values,
    weight_decay_threshold,
)
from pyro_bvae.theory.gaussian import gaussian_chi_squared, gaussian_kl, normal_entropy, normal_kl
from pyro_bvae.theory.importance import (
    effective_scale_ratio,
    importance_gap,
    interval_coverage,
    pareto_shape,
    rank_probabilities,
)
from pyro_bvae.theory.likelihood import expected_log_likelihood, log_likelihood
from pyro_bvae.theory.linear_gaussian import (
    LinearGuide,
    LinearTerms,
    aggregate_posterior,
    diagonal_gap,
    diagonal_guide,
    linear_terms,
    tempered_posterior,
)
from pyro_bvae.theory.optimum import (
    LinearOptimum,
    active_latents,
    eigenvalue_of_mean_variance,
    eigenvalue_of_rate,
    linear_optimum,
    optimal_decoder,
)
from pyro_bvae.theory.rate_distortion import (
    WaterFilling,
    beta_for_rate,
    capacity_optimum,
    gaussian_rate_distortion,
    opening_rates,
)
from pyro_bvae.theory.sigma import (
    BetaAsPrior,
    beta_as_prior,
    collapse_beta,
    learned_likelihood_scale,
    posterior_variance,
    prior_scale_of_guide,
    relevance_prior_scale,
)
from pyro_bvae.theory.total_correlation import (
    EstimatorOffset,
    KLDecomposition,
    kl_decomposition,
    mixture_offset,
)
from pyro_bvae.theory.water_level import equivalent_beta, squared_error_water_level, water_level

__all__ = [
    "BetaAsPrior",
    "EstimatorOffset",
    "GaussianBottleneck",
    "KLDecomposition",
    "LinearGuide",
    "LinearOptimum",
    "LinearTerms",
    "WaterFilling",
    "active_latents",
    "aggregate_posterior",
    "beta_as_prior",
    "beta_for_rate",
    "canonical_correlations",
    "capacity_optimum",
    "collapse_beta",
    "diagonal_gap",
    "diagonal_guide",
    "effective_scale_ratio",
    "eigenvalue_of_mean_variance",
    "eigenvalue_of_rate",
    "equivalent_beta",
    "expected_log_likelihood",
    "gaussian_bottleneck",
    "gaussian_chi_squared",
    "gaussian_kl",
    "gaussian_rate_distortion",
    "importance_gap",
    "interval_coverage",
    "kl_decomposition",
    "learned_likelihood_scale",
    "linear_optimum",
    "linear_terms",
    "log_likelihood",
    "mixture_offset",
    "normal_entropy",
    "normal_kl",
    "opening_rates",
    "optimal_decoder",
    "pareto_shape",
    "posterior_variance",
    "prior_scale_of_guide",
    "rank_probabilities",
    "relevance_prior_scale",
    "squared_error_water_level",
    "tempered_posterior",
    "unit_norm_rates",
    "water_level",
    "weight_decay_singular_values",
    "weight_decay_threshold",
]
