"""Latent traversals: what the decoder draws while one latent moves and the others stay."""

import torch
from torch import Tensor
from torch.distributions import Independent

from pyro_bvae.models.conditional import ConditionalVAE
from pyro_bvae.models.vae import VAE
from pyro_bvae.types import Distribution

_DRAWS = 20_000


def traverse(
    vae: VAE | ConditionalVAE, z: Tensor, *context: Tensor, latent: int, values: Tensor
) -> Tensor:
    """Decode z with one coordinate set to each of the values: E[x | z, z_latent = value].

    Args:
        vae: what decodes.
        z: the code to start from, `[latents]`, such as `vae.encode(x)[0]`.
        context: of a `ConditionalVAE`, one row: `[1, ...]`.
        latent: which coordinate moves, counted from 0.
        values: what it is set to, `[values]`, such as a row of `prior_values(vae)`.

    Returns: `[values, *shape]`.

    Raises:
        ValueError: z or values has another shape, or there is no such latent.

    References:
        Higgins et al. (2017), β-VAE: Learning Basic Visual Concepts with a Constrained
        Variational Framework.

    >>> from pyro_bvae.likelihoods import BernoulliLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> vae = VAE(
    ...     prior=NormalPrior(2),
    ...     likelihood=BernoulliLikelihood(mlp_decoder(2, (1, 8, 8))),
    ...     posterior=MeanFieldPosterior(mlp_encoder((1, 8, 8)), latents=2),
    ... )
    >>> traverse(vae, torch.zeros(2), latent=1, values=prior_values(vae)[1]).shape
    torch.Size([9, 1, 8, 8])
    """
    latents = vae.prior.latents
    if z.shape != (latents,):
        raise ValueError(
            f"z: expected one code of shape [{latents}], got {list(z.shape)}; "
            "of a batch of codes take one, such as z[0]"
        )
    if isinstance(latent, bool) or not isinstance(latent, int) or not 0 <= latent < latents:
        raise ValueError(f"latent: expected a number from 0 to {latents - 1}, got {latent!r}")
    if values.dim() != 1 or len(values) == 0:
        raise ValueError(f"values: expected shape [values], got {list(values.shape)}")
    codes = z.repeat(len(values), 1)
    codes[:, latent] = values.to(codes)
    return vae.decode(codes, *(one.expand(len(codes), *one.shape[1:]) for one in context))


@torch.no_grad()
def prior_values(vae: VAE, *, values: int = 9, reach: float = 3.0) -> Tensor:
    """Return for each latent the quantiles Φ(u) of its prior, u even from −reach to reach.

    For a normal prior they are E[z] + u σ. A prior whose quantiles have no formula is sampled,
    always from the same seed; a σ with a hyperprior is one draw from its posterior.

    Returns: `[latents, values]`, increasing along each row.

    Raises:
        ValueError: fewer than 2 values, or a reach that is not positive.

    >>> from pyro_bvae.likelihoods import NormalLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> vae = VAE(
    ...     prior=NormalPrior(1, scale=0.5),
    ...     likelihood=NormalLikelihood(mlp_decoder(1, (3,))),
    ...     posterior=MeanFieldPosterior(mlp_encoder((3,)), latents=1),
    ... )
    >>> prior_values(vae, values=3, reach=2.0)
    tensor([[-1.0000,  0.0000,  1.0000]])
    """
    if values < 2 or not reach > 0:
        raise ValueError(
            f"values, reach: expected at least 2 values and a reach > 0, got {values} and {reach}"
        )
    device = next(vae.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        prior = vae.trained_prior()
        u = torch.linspace(-reach, reach, values, dtype=torch.float64)
        return _quantiles(prior, torch.special.ndtr(u)).T


def _quantiles(prior: Distribution, probability: Tensor) -> Tensor:
    """Return `[values, latents]`, by formula where torch has one, else from draws."""
    if isinstance(prior, Independent):
        scale = prior.mean
        try:
            return prior.base_dist.icdf(probability[:, None].to(scale))
        except NotImplementedError:
            pass
    draws = prior.sample((_DRAWS,)).sort(0).values
    return draws[(probability * (_DRAWS - 1)).round().long().to(draws.device)]
