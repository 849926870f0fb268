"""InfoVAE and Wasserstein autoencoder: the aggregate posterior is held to the prior by MMD."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_bvae.objectives.base import Objective, Weighed
from pyro_bvae.objectives.checks import check_weight
from pyro_bvae.objectives.codes import codes_of
from pyro_bvae.objectives.sites import Site

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class MMDELBO(Objective):
    """loss = −E_q[log p(x|z)] + Σ_sites β KL(q‖p) + γ MMD²(q(z), p(z)).

    The terms are those of `ELBO` and "mmd", the squared maximum mean discrepancy per datum (no
    nats), from the codes of the batch and as many draws of the prior. With β = 0 it is the
    Wasserstein autoencoder; with β = 1 − a and γ = a + λ − 1 the InfoVAE of Zhao et al. with a
    for their α. Any prior and any guide will do. A learned prior is not trained by the term.

    Args:
        site: the latent site z; by default the only one in the plate of the data, or "z".
        gamma: γ ≥ 0. MMD² is at most 2 and small near a match, so γ is in the hundreds.
        num_particles: draws from the guide per datum.

    Raises:
        ValueError: γ is negative or not finite; when run, as `TotalCorrelationELBO` but for
            dependent latents, which are welcome.

    References:
        Zhao, Song, Ermon (2019), InfoVAE: Balancing Learning and Inference in Variational
        Autoencoders. Tolstikhin, Bousquet, Gelly, Schölkopf (2018), Wasserstein Auto-Encoders.

    >>> MMDELBO(500.0).gamma
    500.0
    """

    def __init__(self, gamma: float, *, site: str | None = None, num_particles: int = 1) -> None:
        super().__init__(num_particles=num_particles)
        self.site = site
        self.gamma = check_weight(gamma, "gamma")

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the terms of the ELBO and the discrepancy."""
        codes = codes_of(sites, self.site)
        weighed = Weighed(reconstruction)
        weighed.add_kl(sites)
        discrepancy = mmd(codes.value, codes.prior_draws(), shares=codes.shares)
        weighed.add("mmd", codes.data * discrepancy, self.gamma)
        return weighed


def mmd(a: Tensor, b: Tensor, *, shares: Tensor | None = None) -> Tensor:
    """Estimate MMD²(a, b) without bias, 0-dim: 0 in expectation for one distribution.

    E k(a, a') + E k(b, b') − 2 E k(a, b), k the mean over s of sC / (sC + ‖·‖²), with C the mean
    squared distance of the draws b.

    Args:
        a: draws `[n, latents]`, n ≥ 2; with `shares`, a draw for every class and datum, class by
            class, `[classes · batch, latents]`.
        b: draws `[m, latents]`, m ≥ 2.
        shares: what each class weighs of its datum `[classes, batch]`, summing to 1 over classes;
            pairs a, a' are then those of two data, as the draws of one are not independent.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012), A Kernel Two-Sample Test.
        Tolstikhin et al. (2018), Wasserstein Auto-Encoders, for the kernel.

    >>> mmd(torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [6.0]])) > 0.5
    tensor(True)
    """
    between = _squared_distances(b, b)
    scale = (between.sum() / (len(b) * (len(b) - 1))).detach()
    within, across = _squared_distances(a, a), _squared_distances(a, b)
    own = _mean_kernel(between, scale, distinct=True)
    if shares is None:
        return _mean_kernel(within, scale, distinct=True) + own - 2 * _mean_kernel(across, scale)
    weights = shares.reshape(-1, 1) / shares.shape[1]
    return (
        _weighted_kernel(within, scale, _between_data(shares))
        + own
        - 2 * _weighted_kernel(across, scale, weights / len(b))
    )


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1)


def _mean_kernel(squared: Tensor, scale: Tensor, *, distinct: bool = False) -> Tensor:
    """Average the kernel over all pairs, or over those off the diagonal, where it is 1."""
    total = torch.stack([(s * scale / (s * scale + squared)).sum() for s in SCALES]).mean()
    n, m = squared.shape
    return (total - n) / (n * (n - 1)) if distinct else total / (n * m)


def _weighted_kernel(squared: Tensor, scale: Tensor, weights: Tensor) -> Tensor:
    """Sum the kernel over all pairs by weights that sum to 1 over them."""
    return torch.stack(
        [(weights * (s * scale / (s * scale + squared))).sum() for s in SCALES]
    ).mean()


def _between_data(shares: Tensor) -> Tensor:
    """Return the weights of pairs of codes of two data, 0 for those of one, `[codes, codes]`."""
    classes, batch = shares.shape
    two = 1 - torch.eye(batch, dtype=shares.dtype, device=shares.device)
    flat = shares.reshape(-1)
    return two.repeat(classes, classes) * flat.unsqueeze(1) * flat / (batch * (batch - 1))
