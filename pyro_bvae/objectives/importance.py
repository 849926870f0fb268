"""The importance-weighted autoencoder: a tighter bound from several draws per datum."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor

from pyro_bvae.beta import Beta
from pyro_bvae.objectives.base import Estimate, Objective, Weighed
from pyro_bvae.objectives.checks import check_choice
from pyro_bvae.objectives.sites import Site, data_plate, differ, latents_of
from pyro_bvae.types import PyroFunction


class ImportanceELBO(Objective):
    """loss = −Σ_data log (1/K) Σ_k p(x|z_k) (p(z_k)/q(z_k|x))^β, z_k ~ q(z|x).

    The term is "importance_loss". At β = 1 it is −L_K, a bound on −log p(x) that falls to it as K
    grows; at K = 1 it is the β-VAE, with the KL sampled. What is reported as "elbo", "kl" and
    "reconstruction" is of the plain ELBO of the same draws. All draws are taken in one run.

    Args:
        num_particles: K ≥ 1, draws per datum.
        gradient: "reparameterised" differentiates the bound as it stands, whose signal for the
            guide fades against its noise as K grows; "doubly" leaves out what log q's own
            parameters contribute and squares the weights: of the same mean, without noise where
            q is the posterior. At K = 1 that is sticking the landing. It needs a q whose log_prob
            takes any z: no inverse-autoregressive flow.

    Raises:
        ValueError: K < 1, or another gradient; when run, sites that are not all in one plate of
            the data, data of unequal scale, or, for "doubly", several latent sites.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders.
        Roeder, Wu, Duvenaud (2017), Sticking the Landing. Tucker, Lawson, Gu, Maddison (2019),
        Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives.
        Rainforth et al. (2018), Tighter Variational Bounds are Not Necessarily Better.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def posterior(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> round(ImportanceELBO(num_particles=5).loss(model, posterior, torch.zeros(2)), 4)
    2.531
    """

    def __init__(self, num_particles: int, *, gradient: str = "reparameterised") -> None:
        super().__init__(num_particles=num_particles, vectorize_particles=num_particles > 1)
        self.max_plate_nesting = 2 if self.vectorize_particles else 1
        self.gradient = check_choice(gradient, "gradient", ("reparameterised", "doubly"))

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the reconstruction, in whose place the bound comes."""
        return Weighed(reconstruction)

    def _draw(self, guide: PyroFunction, args: Any, kwargs: Any) -> Trace:
        trace = super()._draw(guide, args, kwargs)
        if self.gradient == "doubly":
            for site in latents_of(trace, guide=True).values():
                site["gradient"] = ScaledGradient()
                site["value"] = site["gradient"](site["value"])
        return trace

    def _estimate(self, model_trace: Trace, guide_trace: Trace) -> Estimate:
        measured = super()._estimate(model_trace, guide_trace)
        log_weights, beta, scale = self._log_weights(model_trace, guide_trace)
        bounds = log_weights.logsumexp(0) - math.log(len(log_weights))
        if self.gradient == "doubly":
            share = log_weights.detach().softmax(0)
            surrogate = (share * log_weights).sum(0)
            bounds = bounds.detach() + surrogate - surrogate.detach()
            (site,) = latents_of(guide_trace, guide=True).values()
            site["gradient"].factor = 1 - beta + beta * share if self.num_particles > 1 else 1.0
        terms = {"importance_loss": -scale * bounds.sum()}
        return replace(measured, terms=terms, weights={"importance_loss": 1.0})

    def _log_weights(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Beta, float]:
        """Return the log-weights `[particles, batch]`, β, and the plate's size / batch."""
        latents = latents_of(guide_trace, guide=True)
        plate = data_plate(model_trace)
        sites: list[Any] = [site for site in model_trace.nodes.values() if site["type"] == "sample"]
        batch = plate.size if plate else 0
        if plate is None or (self.gradient == "doubly" and len(latents) != 1):
            raise ValueError(
                f"guide: expected {'one latent site' if plate else 'sites'} in a plate of the data "
                f'for gradient="{self.gradient}", got {sorted(latents)}; use '
                'gradient="reparameterised", or ELBO'
            )
        scale = (plate.full_size or batch) / batch
        beta = next((site.get("beta", 1.0) for site in latents.values()), 1.0)
        total = torch.zeros(())
        for site in [*sites, *latents.values()]:
            _check(site, batch=batch, scale=scale, beta=beta)
        for site in sites:
            weight = 1.0 if site["is_observed"] else beta
            total = total + weight * self._rows(_log_prob(site, site["value"]), batch)
        for site in latents.values():
            total = total - beta * self._rows(self._log_q(site), batch)
        return total, beta, scale

    def _log_q(self, site: Any) -> Tensor:
        """Return log q(z), for "doubly" with gradients through z alone."""
        value = site["value"]
        log_q = _log_prob(site, value)
        if self.gradient == "reparameterised":
            return log_q
        fixed = _log_prob(site, value.detach())
        return log_q - fixed + fixed.detach()

    def _rows(self, log_prob: Tensor, batch: int) -> Tensor:
        """Return `[particles, batch]`."""
        allowed = torch.Size([batch]), torch.Size([self.num_particles, batch])
        if log_prob.shape not in allowed:
            raise ValueError(
                f"model, guide: expected a log-probability for each of {batch} data, in one plate, "
                f"got shape {list(log_prob.shape)}; there is no importance bound for global sites"
            )
        return log_prob.expand(self.num_particles, batch)


class ScaledGradient:
    """Draws whose gradient is multiplied by `factor`, `[particles, batch]`, when it comes back."""

    def __init__(self) -> None:
        self.factor: Tensor | float = 1.0

    def __call__(self, value: Tensor) -> Tensor:
        """Return the draws as a new tensor."""
        fresh = value.view_as(value)
        if fresh.requires_grad:
            fresh.register_hook(self._scale)
        return fresh

    def _scale(self, gradient: Tensor) -> Tensor:
        factor = torch.as_tensor(self.factor)
        return gradient * factor.reshape(*factor.shape, *(1,) * (gradient.dim() - factor.dim()))


def _log_prob(site: Any, value: Tensor) -> Tensor:
    return scale_and_mask(site["fn"].log_prob(value), 1.0, site["mask"])


def _check(site: Any, *, batch: int, scale: float, beta: Beta) -> None:
    """Raise ValueError if a site has another scale or β than the data."""
    own = site["scale"]
    if isinstance(own, Tensor) or abs(own / scale - 1) > 1e-6:
        raise ValueError(
            f"site {site['name']!r}: expected the scale {scale} of the plate of the data, got "
            f"{own}; an importance bound weighs no site or datum by itself"
        )
    if "beta" in site and differ(site["beta"], beta):
        raise ValueError(
            f"beta: expected one β for all latent sites, got {site['beta']} at site "
            f"{site['name']!r} and {beta} elsewhere"
        )
