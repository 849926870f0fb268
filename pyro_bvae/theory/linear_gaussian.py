"""The linear β-VAE for a given decoder: its best guides, and the terms of any guide.

Data x `[data]` of mean μ and covariance Σ, prior N(0, r I) with r = σ_z², decoder
p(x|z) = N(Wz + μ, s I) with s = σ_x², guide q(z|x) = N(V(x − μ), S), objective
L = −Dist − βR. All in nats, averaged over data and summed over dimensions. t = βs.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_bvae.theory.checks import (
    Real,
    covariance_matrix,
    level_of,
    matrix,
    positive,
    prior_variances,
)


class LinearGuide(NamedTuple):
    """q(z|x) = N(V(x − μ), S): `weight` V `[latent, data]`, `covariance` S `[latent, latent]`."""

    weight: Tensor
    covariance: Tensor


class LinearTerms(NamedTuple):
    """What a decoder and a guide are worth, 0-dim, in nats (but `mse`).

    `objective` L = −Dist − βR; `elbo` −Dist − R, the bound on log p(x) whatever β; `rate` R, the
    mean KL(q‖p); `distortion` Dist = −E log p(x|z); `mse` E‖x − Wz − μ‖², summed over dimensions.
    """

    objective: Tensor
    elbo: Tensor
    rate: Tensor
    distortion: Tensor
    mse: Tensor


def terms_of(
    mse: Tensor, rate: Tensor, *, beta: Tensor, likelihood_scale: Tensor, dimensions: int
) -> LinearTerms:
    """Return the terms of a normal likelihood: Dist = (D/2) ln 2πs + MSE/2s."""
    variance = likelihood_scale**2
    distortion = dimensions / 2 * (2 * math.pi * variance).log() + mse / (2 * variance)
    return LinearTerms(-distortion - beta * rate, -distortion - rate, rate, distortion, mse)


def _precision(
    decoder: Tensor, *, beta: Real, likelihood_scale: Real, prior_scale: Real
) -> tuple[Tensor, Tensor]:
    """Return the tempered posterior's precision P = WᵀW/t + I/r, and t."""
    matrix(decoder, "decoder")
    level = level_of(beta, likelihood_scale, like=decoder)
    prior = prior_variances(prior_scale, latents=decoder.shape[1], like=decoder)
    return decoder.mT @ decoder / level + torch.diag(1 / prior), level


def tempered_posterior(
    decoder: Tensor, *, beta: Real = 1.0, likelihood_scale: Real, prior_scale: Real = 1.0
) -> LinearGuide:
    """Return q(z|x) ∝ p(z) p(x|z)^{1/β}: the best guide of a decoder, whatever the data.

    S = (WᵀW/t + I/r)⁻¹, V = S Wᵀ/t: the exact posterior of the model whose noise is t = βσ_x². At
    β = 1 it is the model's own posterior p(z|x); at any other β it is not. V is a ridge regression,
    V = (WᵀW + ρI)⁻¹Wᵀ with ρ = βs/r, so that (β, r = 1) and (1, r = 1/β) share their mean, while
    the covariance of the first is β times the other's.

    Args:
        decoder: W `[data, latent]`.
        beta: β > 0.
        likelihood_scale: σ_x, with s = σ_x².
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: W is not a finite matrix, or a β or scale is not positive.

    References:
        Tipping, Bishop (1999), Probabilistic Principal Component Analysis, for β = 1.
        Higgins et al. (2017), beta-VAE, for β.

    >>> guide = tempered_posterior(torch.eye(2), beta=4.0, likelihood_scale=0.5)
    >>> guide.covariance.diagonal()
    tensor([0.5000, 0.5000])
    """
    precision, level = _precision(
        decoder, beta=beta, likelihood_scale=likelihood_scale, prior_scale=prior_scale
    )
    covariance = torch.linalg.inv(precision)
    return LinearGuide(covariance @ decoder.mT / level, covariance)


def diagonal_guide(
    decoder: Tensor, *, beta: Real = 1.0, likelihood_scale: Real, prior_scale: Real = 1.0
) -> LinearGuide:
    """Return the best guide whose covariance is diagonal: the mean field of a decoder.

    s_j² = 1/P_jj with P = WᵀW/t + I/r, and the same V as `tempered_posterior`.

    Args and Raises: as `tempered_posterior`.

    References:
        Lucas, Tucker, Grosse, Norouzi (2019), Don't Blame the ELBO! A Linear VAE Perspective on
        Posterior Collapse.

    >>> decoder = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    >>> diagonal_guide(decoder, likelihood_scale=1.0).covariance.diagonal()
    tensor([0.5000, 0.4444])
    """
    knobs = {"beta": beta, "likelihood_scale": likelihood_scale, "prior_scale": prior_scale}
    precision, _ = _precision(decoder, **knobs)
    return LinearGuide(
        tempered_posterior(decoder, **knobs).weight, torch.diag(1 / precision.diagonal())
    )


def diagonal_gap(
    decoder: Tensor, *, beta: Real = 1.0, likelihood_scale: Real, prior_scale: Real = 1.0
) -> Tensor:
    """Return the objective that the best diagonal guide loses, in nats, ≥ 0.

    (β/2) [Σ ln P_jj − ln det P], zero if and only if WᵀW is diagonal. So a diagonal guide makes
    the columns of W orthogonal, and the latents find the principal axes.

    Args and Raises: as `tempered_posterior`.

    References:
        Rolínek, Zietlow, Martius (2019), Variational Autoencoders Pursue PCA Directions (by
        Accident).

    >>> decoder = torch.tensor([[1.0, 0.5], [0.0, 1.0]])
    >>> round(float(diagonal_gap(decoder, likelihood_scale=1.0)), 4)
    0.0286
    """
    precision, _ = _precision(
        decoder, beta=beta, likelihood_scale=likelihood_scale, prior_scale=prior_scale
    )
    lost = precision.diagonal().log().sum() - torch.logdet(precision)
    return positive(beta, "beta", like=decoder) / 2 * lost


def aggregate_posterior(guide: LinearGuide, covariance: Tensor) -> Tensor:
    """Return A `[latent, latent]` = VΣVᵀ + S, the covariance of q(z) = E q(z|x).

    Args:
        guide: V and S.
        covariance: Σ `[data, data]`.

    Raises:
        ValueError: Σ or S is not a covariance of the size of V.

    >>> aggregate_posterior(LinearGuide(torch.eye(2), torch.eye(2)), torch.eye(2))
    tensor([[2., 0.],
            [0., 2.]])
    """
    latents, data = matrix(guide.weight, "guide.weight").shape
    covariance_matrix(covariance, size=data)
    covariance_matrix(guide.covariance, "guide.covariance", size=latents)
    return guide.weight @ covariance @ guide.weight.mT + guide.covariance


def linear_terms(
    covariance: Tensor,
    decoder: Tensor,
    guide: LinearGuide,
    *,
    beta: Real = 1.0,
    likelihood_scale: Real,
    prior_scale: Real = 1.0,
) -> LinearTerms:
    """Return L, the ELBO, R, Dist and the squared error of any decoder and guide.

    With A = VΣVᵀ + S: MSE = tr Σ − 2 tr(WVΣ) + tr(WAWᵀ), Dist = (D/2) ln 2πs + MSE/2s,
    R = ½ [tr(A/r) − K − ln det(S/r)], L = −Dist − βR.

    Args:
        covariance: Σ `[data, data]` of the data, centred where the decoder is.
        decoder: W `[data, latent]`.
        guide: V and S.
        beta: β > 0.
        likelihood_scale: σ_x, with s = σ_x².
        prior_scale: σ_z, with r = σ_z²; one number or `[latent]`.

    Raises:
        ValueError: shapes that do not fit, or a β or scale that is not positive.

    References:
        Alemi et al. (2018), Fixing a Broken ELBO, for R and Dist.

    >>> guide = tempered_posterior(torch.eye(2), likelihood_scale=1.0)
    >>> terms = linear_terms(2 * torch.eye(2), torch.eye(2), guide, likelihood_scale=1.0)
    >>> round(float(terms.rate), 4), float(terms.mse)
    (0.6931, 2.0)
    """
    data, latents = matrix(decoder, "decoder").shape
    if guide.weight.shape != (latents, data):
        raise ValueError(
            f"guide.weight: expected [{latents}, {data}], got {tuple(guide.weight.shape)}"
        )
    aggregate = aggregate_posterior(guide, covariance)
    scale = positive(likelihood_scale, "likelihood_scale", like=decoder)
    prior = prior_variances(prior_scale, latents=latents, like=decoder)
    mse = (
        covariance.trace()
        - 2 * (decoder @ guide.weight @ covariance).trace()
        + (decoder @ aggregate @ decoder.mT).trace()
    )
    log_ratio = torch.logdet(guide.covariance) - prior.log().sum()
    rate = ((aggregate.diagonal() / prior).sum() - latents - log_ratio) / 2
    beta = positive(beta, "beta", like=decoder)
    return terms_of(mse, rate, beta=beta, likelihood_scale=scale, dimensions=data)
