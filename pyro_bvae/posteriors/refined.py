"""The refined posterior: a posterior improved for each datum by a few gradient steps."""

from contextlib import suppress
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_bvae.checks import check_count, check_number
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.posteriors.base import Posterior
from pyro_bvae.posteriors.noted import made_of
from pyro_bvae.types import Distribution


class RefinedPosterior(Posterior):
    """q(z|x) = family(λ_k): λ_0 = λ(x), λ_{i+1} = λ_i + η ∇_λ ELBO(x; λ_i), for each datum.

    A semi-amortised posterior: the encoder's λ is where gradient ascent of
    ELBO = E_q log p(x|z) − β KL(q‖p) starts, with fresh draws in every step. Gradients are
    stopped at the steps: training sees λ_k = λ(x) + constant, so the encoder has the gradient
    at the refined λ_k, and second derivatives are not needed. Prior and likelihood are those of
    the VAE and belong to it: alone, the posterior neither moves nor saves them. Each call costs k
    runs of the decoder forwards and backwards.

    Args:
        posterior: any family with an encoder.
        prior: the `Prior` that goes into the same VAE.
        likelihood: the `Likelihood` that goes into the same VAE.
        steps: k, ≥ 1.
        rate: η > 0.
        beta: β of the ELBO to climb; give what the VAE is tempered with.
        num_particles: draws of z in each step.

    Returns (when called): batch shape `[batch]`, event shape `[latents]`.

    Raises:
        TypeError: `posterior` has no parameters λ to refine.
        ValueError: steps or num_particles < 1, a rate ≤ 0, β < 0; put into a VAE with another
            prior or likelihood.

    References:
        Kim, Wiseman, Miller, Sontag, Rush (2018), Semi-Amortized Variational Autoencoders.

    >>> from pyro_bvae.likelihoods import BernoulliLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> prior, likelihood = NormalPrior(2), BernoulliLikelihood(mlp_decoder(2, (9,)))
    >>> start = MeanFieldPosterior(mlp_encoder((9,)), latents=2)
    >>> q = RefinedPosterior(start, prior=prior, likelihood=likelihood, steps=3, rate=0.1)
    >>> q(torch.rand(5, 9)).event_shape
    torch.Size([2])
    """

    def __init__(
        self,
        posterior: AmortisedPosterior,
        *,
        prior: nn.Module,
        likelihood: nn.Module,
        steps: int = 5,
        rate: float = 0.1,
        beta: float = 1.0,
        num_particles: int = 1,
    ) -> None:
        if not isinstance(posterior, AmortisedPosterior):
            raise TypeError(
                "posterior: expected an AmortisedPosterior, whose parameters an encoder gives, "
                f"got {type(posterior).__name__}"
            )
        super().__init__(posterior.latents)
        self.posterior = posterior
        self._parts: tuple[Any, Any] = (prior, likelihood)
        self.steps = check_count(steps, "steps")
        self.num_particles = check_count(num_particles, "num_particles")
        self.rate = check_number(rate, "rate", positive=True)
        self.beta = check_number(beta, "beta")

    def forward(self, x: Tensor, *context: Tensor) -> Distribution:
        """Return q(z|x)."""
        numbers = self.posterior.amortised(x, *context)
        refined = self._climb(numbers.detach(), x, context)
        return made_of(self.posterior.family, numbers, (refined - numbers).detach())

    def point(self, q: Distribution) -> Tensor:
        """Return what stands for q in the family that is refined."""
        return self.posterior.point(q)

    def check_parts(self, prior: nn.Module, likelihood: nn.Module) -> None:
        """Raise ValueError if the VAE's prior and likelihood are not those it climbs with."""
        for name, part, own in zip(
            ("prior", "likelihood"), (prior, likelihood), self._parts, strict=True
        ):
            if part is not own:
                raise ValueError(
                    f"posterior: expected a RefinedPosterior with the VAE's own {name}, got one "
                    "with another; build the parts first and pass each to both"
                )

    def _climb(self, numbers: Tensor, x: Tensor, context: tuple[Tensor, ...]) -> Tensor:
        """Take the gradient steps from λ `[batch, numbers]`."""
        prior = self._prior(context)
        for _ in range(self.steps):
            with torch.enable_grad():
                start = numbers.detach().requires_grad_()
                elbo = self._elbo(self.posterior.family(start), prior, x, context)
                (gradient,) = torch.autograd.grad(elbo.sum(), start)
            numbers = numbers + self.rate * gradient
        return numbers

    @torch.no_grad()
    def _prior(self, context: tuple[Tensor, ...]) -> Distribution:
        """Return p(z), with σ drawn from its posterior if it has one; Pyro sees no site."""
        prior, _ = self._parts
        with poutine.block():
            guide = poutine.trace(prior.guide).get_trace()
            with poutine.replay(trace=guide):
                return prior(*context)

    def _elbo(
        self, q: Distribution, p: Distribution, x: Tensor, context: tuple[Tensor, ...]
    ) -> Tensor:
        _, likelihood = self._parts
        z = q.rsample((self.num_particles,))
        fit = likelihood(z, *context).log_prob(x).mean(0)
        with suppress(NotImplementedError):
            return fit - self.beta * kl_divergence(q, p)
        return fit - self.beta * (q.log_prob(z) - p.log_prob(z)).mean(0)
