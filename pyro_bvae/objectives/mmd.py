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
    for their α. Any prior and any guide will do that has one latent site in the plate of the data.
    A learned prior is not trained by the term.

    Args:
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

    def __init__(self, gamma: float, *, num_particles: int = 1) -> None:
        super().__init__(num_particles=num_particles)
        self.gamma = check_weight(gamma, "gamma")

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the terms of the ELBO and the discrepancy."""
        codes = codes_of(sites)
        weighed = Weighed(reconstruction)
        weighed.add_kl(sites)
        weighed.add("mmd", codes.data * mmd(codes.value, codes.prior_draws()), self.gamma)
        return weighed


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Estimate MMD²(a, b) without bias, 0-dim: 0 in expectation for one distribution.

    E k(a, a') + E k(b, b') − 2 E k(a, b), k the mean over s of sC / (sC + ‖·‖²), with C the mean
    squared distance of the draws b.

    Args:
        a: draws `[n, latents]`, n ≥ 2.
        b: draws `[m, latents]`, m ≥ 2.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012), A Kernel Two-Sample Test.
        Tolstikhin et al. (2018), Wasserstein Auto-Encoders, for the kernel.

    >>> mmd(torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [6.0]])) > 0.5
    tensor(True)
    """
    between = _squared_distances(b, b)
    scale = (between.sum() / (len(b) * (len(b) - 1))).detach()
    return (
        _mean_kernel(_squared_distances(a, a), scale, distinct=True)
        + _mean_kernel(between, scale, distinct=True)
        - 2 * _mean_kernel(_squared_distances(a, b), scale)
    )


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(-1)


def _mean_kernel(squared: Tensor, scale: Tensor, *, distinct: bool = False) -> Tensor:
    """Average the kernel over all pairs, or over those off the diagonal, where it is 1."""
    total = torch.stack([(s * scale / (s * scale + squared)).sum() for s in SCALES]).mean()
    n, m = squared.shape
    return (total - n) / (n * (n - 1)) if distinct else total / (n * m)
