"""Mutual information, total correlation and dimension-wise KL of a Gaussian aggregate posterior.

The mean KL of a guide, E KL(q(z|x)‖p(z)), is the sum of the three. At the linear β-VAE's optimum
the aggregate posterior is the prior, and all of it is mutual information.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_bvae.theory.checks import Real, prior_variances, whole
from pyro_bvae.theory.linear_gaussian import LinearGuide, aggregate_posterior


class KLDecomposition(NamedTuple):
    """The three parts of the mean KL, nats: 0-dim, 0-dim and `[latent]`."""

    mutual_information: Tensor
    total_correlation: Tensor
    dimension_wise_kl: Tensor


def kl_decomposition(
    guide: LinearGuide, covariance: Tensor, *, prior_scale: Real = 1.0
) -> KLDecomposition:
    """Return the exact decomposition for Gaussian data and a linear guide.

    MI = ½ ln(|A|/|S|), TC = ½ [Σ ln A_jj − ln |A|], KL_j = ½ [A_jj/r − 1 − ln(A_jj/r)]; they add up
    to the rate ½ [tr A/r − K − ln(|S|/r^K)].

    Args:
        guide: V and S.
        covariance: Σ `[data, data]`.
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: Σ or S is not a covariance of the size of V, or a scale is not positive.

    References:
        Chen, Li, Grosse, Duvenaud (2018), Isolating Sources of Disentanglement in VAEs.

    >>> means, variances = torch.tensor([0.9, 0.8]), torch.tensor([0.19, 0.36])
    >>> guide = LinearGuide(torch.diag(means), torch.diag(variances))
    >>> parts = kl_decomposition(guide, torch.tensor([[1.0, 0.6], [0.6, 1.0]]))
    >>> round(float(parts.mutual_information), 4), round(float(parts.total_correlation), 4)
    (1.2379, 0.1033)
    """
    aggregate = aggregate_posterior(guide, covariance)
    variances = aggregate.diagonal()
    ratio = variances / prior_variances(prior_scale, latents=len(aggregate), like=aggregate)
    log_det = torch.logdet(aggregate)
    return KLDecomposition(
        (log_det - torch.logdet(guide.covariance)) / 2,
        (variances.log().sum() - log_det) / 2,
        (ratio - 1 - ratio.log()) / 2,
    )


class EstimatorOffset(NamedTuple):
    """What an estimator of the decomposition adds to each part, nats; `dimension_wise_kl` each."""

    mutual_information: float
    total_correlation: float
    dimension_wise_kl: float


def mixture_offset(latents: int, *, batch_size: int, divisor: int) -> EstimatorOffset:
    """Return what dividing Σ_i q(z|x_i) over a batch by M instead of its size B adds.

    With a = ln(M/B): MI + a, TC + (K − 1) a, KL_j − a for each of K latents, so that the sum is
    unharmed. Dividing by B is right up to a bias of order 1/B. M = 1 (log-sum-exp without its
    constant) gives TC − (K − 1) ln B; M = BN, minibatch-weighted sampling of N data, gives
    TC + (K − 1) ln N: good for a gradient, not for a number to report.

    Args:
        latents: K.
        batch_size: B.
        divisor: M.

    Raises:
        ValueError: an argument is not a whole number ≥ 1.

    References:
        Chen, Li, Grosse, Duvenaud (2018), Isolating Sources of Disentanglement in VAEs, for
        minibatch-weighted sampling.

    >>> offset = mixture_offset(10, batch_size=64, divisor=64 * 60_000)
    >>> round(offset.total_correlation, 2), round(offset.mutual_information, 2)
    (99.02, 11.0)
    """
    log_ratio = math.log(whole(divisor, "divisor") / whole(batch_size, "batch_size"))
    return EstimatorOffset(log_ratio, (whole(latents, "latents") - 1) * log_ratio, -log_ratio)
