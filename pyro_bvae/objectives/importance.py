"""The importance-weighted autoencoder: a tighter bound from several draws per datum."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask, sum_rightmost
from pyro.poutine import Trace
from torch import Tensor

from pyro_bvae.beta import VECTORISATION_PLATES, Beta
from pyro_bvae.objectives.base import Estimate, Objective, Weighed
from pyro_bvae.objectives.checks import check_choice
from pyro_bvae.objectives.doubly import Given, ScaledGradient
from pyro_bvae.objectives.sites import Site, data_plate, differ, latents_of
from pyro_bvae.types import PyroFunction


class ImportanceELBO(Objective):
    """loss = −Σ_data log (1/K) Σ_k p(x|z_k) (p(z_k)/q(z_k|x))^β, z_k ~ q(z|x).

    The term is "importance_loss". At β = 1 it is −L_K, a bound on −log p(x) that falls to it as K
    grows; at K = 1 it is the β-VAE, with the KL sampled. What is reported as "elbo", "kl" and
    "reconstruction" is of the plain ELBO of the same draws. All draws are taken in one run.

    Several latents, and plates within that of the data, share the weights of their datum. Where a
    model weighs its own likelihood, or the elements of an inner plate, these weights are powers
    within the sum over draws. So for `SemiSupervisedVAE`, whose w_k = Π_y (w_ky p(y)/q(y|x))^q(y|x)
    is at most Σ_y p(y) w_ky, an unbiased estimate of p(x): the bound holds, and rises with K to at
    most log p(x) − KL(q(y|x)‖p(y|x)), where it is for every K if q(z|x,y) is exact.

    Args:
        num_particles: K ≥ 1, draws per datum.
        gradient: "reparameterised" differentiates the bound as it stands, whose signal for the
            guide fades against its noise as K grows; "doubly" leaves out what log q's own
            parameters contribute and squares the weights: of the same mean, without noise where
            q is the posterior. At K = 1 that is sticking the landing. Latents may be drawn one
            from the other, but must be continuous, with a log_prob that takes any z: no
            inverse-autoregressive flow.

    Raises:
        ValueError: K < 1, or another gradient; when run, a site outside the plate of the data,
            data of unequal scale, or, for "doubly", classes or weighted latents.

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
        self.gradient = check_choice(gradient, "gradient", ("reparameterised", "doubly"))

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the reconstruction, in whose place the bound comes."""
        return Weighed(reconstruction)

    def _guess_max_plate_nesting(self, *args: Any) -> None:
        """Count the plates by a run of the pair that leaves the random state as it was."""
        devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices):
            super()._guess_max_plate_nesting(*args)

    def _draw(self, guide: PyroFunction, args: Any, kwargs: Any) -> Trace:
        if self.gradient == "reparameterised":
            return super()._draw(guide, args, kwargs)
        with Given() as given:
            trace = super()._draw(guide, args, kwargs)
        for site in latents_of(trace, guide=True).values():
            site["given"], site["gradient"] = given, ScaledGradient()
            site["value"] = site["gradient"](site["value"])
        return trace

    def _estimate(self, model_trace: Trace, guide_trace: Trace) -> Estimate:
        measured = super()._estimate(model_trace, guide_trace)
        log_weights, beta, scale = self._log_weights(model_trace, guide_trace)
        rows = log_weights.reshape(self.num_particles, -1)
        bounds = rows.logsumexp(0) - math.log(self.num_particles)
        if self.gradient == "doubly":
            share = rows.detach().softmax(0)
            surrogate = (share * rows).sum(0)
            bounds = bounds.detach() + surrogate - surrogate.detach()
            if self.num_particles > 1:
                for site in latents_of(guide_trace, guide=True).values():
                    site["gradient"].factor = 1 - beta + beta * share.reshape(log_weights.shape)
        terms = {"importance_loss": -scale * bounds.sum()}
        return replace(measured, terms=terms, weights={"importance_loss": 1.0})

    def _log_weights(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Beta, float]:
        """Return the log-weights, β, and the plate's size / batch.

        The log-weights have the plates' shape, with the draws and the data in their places and 1
        elsewhere: `[particles, 1, batch]`, say.
        """
        latents = latents_of(guide_trace, guide=True)
        plate = data_plate(model_trace)
        sites: list[Any] = [site for site in model_trace.nodes.values() if site["type"] == "sample"]
        if plate is None or plate.dim is None:
            raise ValueError(
                f"guide: expected sites in a plate of the data, got {sorted(latents)} in none; "
                "use ELBO"
            )
        if self.gradient == "doubly":
            _check_continuous(latents)
        kept = {plate.dim: plate.size}
        if self.num_particles > 1:
            kept[-self.max_plate_nesting] = self.num_particles
        scale = (plate.full_size or plate.size) / plate.size
        beta = next((site.get("beta", 1.0) for site in latents.values()), 1.0)
        total = torch.zeros(())
        for site in sites:
            weight = 1.0 if site["is_observed"] else beta
            total = total + weight * self._rows(site, _log_prob(site, site["value"]), kept, scale)
        for site in latents.values():
            _check_beta(site, beta)
        if self.gradient == "doubly":
            return total - beta * self._log_q_of_draws(latents, kept, scale), beta, scale
        for site in latents.values():
            log_q = self._rows(site, _log_prob(site, site["value"]), kept, scale)
            total = total - beta * log_q
        return total, beta, scale

    def _log_q_of_draws(
        self, latents: Mapping[str, Any], kept: dict[int, int], scale: float
    ) -> Tensor:
        """Return log q(z) with gradients through z alone."""
        log_q, of_parameters = torch.zeros(()), torch.zeros(())
        for site in latents.values():
            value = site["value"]
            fixed = _log_prob(site, value.detach())
            through_own = _log_prob(site, value) - fixed + fixed.detach()
            log_q = log_q + self._rows(site, through_own, kept, scale)
            of_parameters = of_parameters + self._rows(site, fixed, kept, scale)
        if len(latents) == 1:
            return log_q
        given = next(iter(latents.values()))["given"]
        for name, gradient in given.partials(of_parameters.sum()).items():
            site, value = latents[name], latents[name]["value"]
            through = sum_rightmost(gradient * (value - value.detach()), site["fn"].event_dim)
            log_q = log_q + self._rows(site, through, kept, scale)
        return log_q

    def _rows(self, site: Any, log_prob: Tensor, kept: dict[int, int], scale: float) -> Tensor:
        """Weigh, and sum over all plates but those in `kept`: of the data, and of the draws."""
        frames = [f for f in site["cond_indep_stack"] if f.name not in VECTORISATION_PLATES]
        if all(kept.get(frame.dim) != frame.size for frame in frames):
            raise ValueError(
                f"site {site['name']!r}: expected it in the plate of the data, got "
                f"{[frame.name for frame in frames]}; there is no importance bound for global sites"
            )
        whole = self._weight(site, scale, inner=len(frames) > 1) * log_prob
        dims = range(min(*kept, -whole.dim()), 0)
        whole = whole.reshape((1,) * (len(dims) - whole.dim()) + whole.shape)
        others = [dim for dim in dims if dim not in kept]
        whole = whole.sum(others, keepdim=True) if others else whole
        return whole.expand([kept.get(dim, 1) for dim in dims])

    def _weight(self, site: Any, scale: float, *, inner: bool) -> float | Tensor:
        """Return what the site weighs against the data: 1, or the power that it is raised to."""
        own, observed = site["scale"], site["is_observed"]
        if not isinstance(own, Tensor) and abs(own / scale - 1) < 1e-6:
            return 1.0
        plain = self.gradient == "reparameterised"
        if (isinstance(own, Tensor) and (observed or plain)) if inner else observed:
            return own / scale
        raise ValueError(
            f"site {site['name']!r}: expected the scale {scale} of the plate of the data, got "
            f"{own}; an importance bound weighs no latent or datum by itself"
        )


def _log_prob(site: Any, value: Tensor) -> Tensor:
    return scale_and_mask(site["fn"].log_prob(value), 1.0, site["mask"])


def _check_continuous(latents: Mapping[str, Any]) -> None:
    for name, site in latents.items():
        if getattr(site["fn"], "has_enumerate_support", False):
            raise ValueError(
                f'guide: expected continuous latents for gradient="doubly", got classes at site '
                f'{name!r}, which have no reparameterised draws; use gradient="reparameterised"'
            )


def _check_beta(site: Any, beta: Beta) -> None:
    own = site.get("beta", 1.0)
    if differ(own, beta):
        raise ValueError(
            f"beta: expected one β for all latent sites, got {own} at site "
            f"{site['name']!r} and {beta} elsewhere"
        )
