"""What every objective is: a `pyro.infer.ELBO` that weighs named terms."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO as PyroELBO
from pyro.infer.util import is_validation_enabled, torch_item
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match, warn_if_nan
from torch import Tensor, nn

from pyro_bvae.beta import Beta, untempered
from pyro_bvae.objectives.sites import (
    Site,
    check_pair,
    check_shapes,
    data_count,
    latent_sites,
    reconstruction,
)
from pyro_bvae.types import PyroFunction

Terms = dict[str, Tensor]
Draws = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Estimate:
    """What an objective measured on a batch. In nats, summed over the data the plates stand for.

    Attributes:
        terms: the objective's named terms, unweighted, 0-dim.
        weights: the weight of each term; `loss` is Σ weight · term.
        reconstruction: −E_q log p(x|z), 0-dim.
        kl_per_latent: for every latent site, KL(q‖p) of each of its dimensions, unweighted;
            one entry where it does not split into dimensions.
        data: how many data the sums stand for: the size of the plate of the data.
        measures: what else was measured, 0-dim, without gradients; no part of the loss.
        draws: two batches of codes `[n, latents]` that the objective's critic is to tell apart.
    """

    terms: Mapping[str, Tensor]
    weights: Mapping[str, Beta]
    reconstruction: Tensor
    kl_per_latent: Mapping[str, Tensor]
    data: int
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    draws: Draws | None = None

    @property
    def loss(self) -> Tensor:
        """Σ weight · term, which falls."""
        return torch.stack([self.weights[name] * term for name, term in self.terms.items()]).sum()

    @property
    def kl(self) -> Tensor:
        """KL(q‖p) of all latent sites, unweighted."""
        return torch.stack([kl.sum() for kl in self.kl_per_latent.values()]).sum()

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound at β = 1, which rises."""
        return -self.reconstruction - self.kl


class Weighed:
    """What `weigh` returns: terms with their weights, to begin with −log p(x|z) at weight 1.

    `measures` and `draws` are those of an `Estimate`.

    >>> weighed = Weighed(torch.tensor(3.0))
    >>> weighed.add("penalty", torch.tensor(2.0), 10.0)
    >>> weighed.weights
    {'reconstruction': 1.0, 'penalty': 10.0}
    """

    def __init__(self, reconstruction: Tensor) -> None:
        self.terms: Terms = {"reconstruction": reconstruction}
        self.weights: dict[str, Beta] = {"reconstruction": 1.0}
        self.measures: Terms = {}
        self.draws: Draws | None = None

    def add(self, name: str, term: Tensor, weight: Beta) -> None:
        """Add a term, unweighted, and its weight."""
        self.terms[name], self.weights[name] = term, weight

    def add_kl(self, sites: Mapping[str, Site]) -> None:
        """Add the KL of every site as "kl_SITE", weighted by the site's β."""
        for name, site in sites.items():
            self.add(f"kl_{name}", site.kl.sum(), site.beta)


class Objective(PyroELBO, ABC):
    """A training objective: named, unweighted terms and their weights.

    It is a `pyro.infer.ELBO` and goes wherever one goes: `pyro.infer.SVI(model, guide, optim,
    loss=objective)`. A subclass says in `weigh` what its terms are and what each weighs. The
    terms are computed on the untempered pair; β is read off the sites where `tempered` noted it.

    Args:
        num_particles: draws from the guide per datum.
        vectorize_particles: draw them in one batched run instead of a loop.

    Attributes:
        critic: a module of the user's from codes `[n, latents]` to `[n]`, if the objective has
            one. It is trained beside the pair, to tell the `draws` of an `Estimate` apart, by
            `fit` or by `training.CriticSVI`; the objective itself never changes it.
    """

    critic: nn.Module | None = None

    def __init__(self, *, num_particles: int = 1, vectorize_particles: bool = False) -> None:
        if num_particles < 1:
            raise ValueError(f"num_particles: expected at least 1, got {num_particles}")
        super().__init__(num_particles=num_particles, vectorize_particles=vectorize_particles)
        self._plates: dict[Any, float] = {}

    @abstractmethod
    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the terms and their weights, given −log p(x|z) and the latent sites."""

    def advance(self, step: int) -> None:
        """Set what follows a schedule to its value at `step`, counted from 0; here nothing."""

    def estimate(
        self, model: PyroFunction, guide: PyroFunction, *args: Any, **kwargs: Any
    ) -> Estimate:
        """Run the pair and return the terms, their weights, the ELBO and the KL per latent."""
        traces = self._get_traces(model, guide, args, kwargs)
        return _mean([self._estimate(*pair) for pair in traces])

    def differentiable_loss(
        self, model: PyroFunction, guide: PyroFunction, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return the loss as a 0-dim tensor with gradients."""
        return self.estimate(model, guide, *args, **kwargs).loss

    @torch.no_grad()
    def loss(self, model: PyroFunction, guide: PyroFunction, *args: Any, **kwargs: Any) -> float:
        """Return the loss as a number."""
        return self._item(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(
        self, model: PyroFunction, guide: PyroFunction, *args: Any, **kwargs: Any
    ) -> float:
        """Return the loss as a number, and add its gradients to the parameters'."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return self._item(loss)

    def _item(self, loss: Tensor) -> float:
        warn_if_nan(loss, "loss")
        return torch_item(loss)

    def _estimate(self, model_trace: Trace, guide_trace: Trace) -> Estimate:
        draws = self._draws_per_trace
        nll = reconstruction(model_trace)
        nll = nll if draws == 1 else nll / draws
        sites = latent_sites(model_trace, guide_trace, draws=draws)
        weighed = self.weigh(nll, sites)
        return Estimate(
            weighed.terms,
            weighed.weights,
            nll,
            {name: site.kl for name, site in sites.items()},
            data_count(model_trace),
            weighed.measures,
            weighed.draws,
        )

    @property
    def _draws_per_trace(self) -> int:
        return self.num_particles if self.vectorize_particles else 1

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: all but the pairs that have been seen."""
        return {**self.__dict__, "_plates": {}}

    def _get_traces(
        self, model: PyroFunction, guide: PyroFunction, args: Any, kwargs: Any
    ) -> Iterator[tuple[Trace, Trace]]:
        """Run the pair; for vectorised draws its plates are counted, once, unless they were set."""
        if self._draws_per_trace > 1 and (self._plates or self.max_plate_nesting == math.inf):
            pair = _identity(model), _identity(guide)
            if pair not in self._plates:
                self._guess_max_plate_nesting(model, guide, args, kwargs)
                self._plates[pair] = self.max_plate_nesting
            self.max_plate_nesting = self._plates[pair]
        return super()._get_traces(model, guide, args, kwargs)

    def _draw(self, guide: PyroFunction, args: Any, kwargs: Any) -> Trace:
        return poutine.trace(guide).get_trace(*args, **kwargs)

    def _get_trace(
        self, model: PyroFunction, guide: PyroFunction, args: Any, kwargs: Any
    ) -> tuple[Trace, Trace]:
        with untempered():
            guide_trace = self._draw(guide, args, kwargs)
            replayed = poutine.replay(model, trace=guide_trace)
            model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
        traces = prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)
        check_pair(*traces)
        if is_validation_enabled():
            check_model_guide_match(model_trace, guide_trace, self.max_plate_nesting)
            for trace in traces:
                check_shapes(trace, max_plate_nesting=self.max_plate_nesting)
        return traces


def _identity(function: PyroFunction) -> Hashable:
    """Return what tells a function of a pair from others, whatever β it is tempered with."""
    function = inspect.unwrap(function, stop=lambda f: not getattr(f, "is_tempered", False))
    return function if isinstance(function, Hashable) else id(function)


def _mean(estimates: list[Estimate]) -> Estimate:
    """Average over estimates of one draw each; the draws for the critic are put together."""
    first = estimates[0]
    if len(estimates) == 1:
        return first

    def mean(named: list[Mapping[str, Tensor]]) -> Terms:
        return {name: torch.stack([n[name] for n in named]).mean(0) for name in named[0]}

    return replace(
        first,
        terms=mean([e.terms for e in estimates]),
        reconstruction=torch.stack([e.reconstruction for e in estimates]).mean(),
        kl_per_latent=mean([e.kl_per_latent for e in estimates]),
        measures=mean([e.measures for e in estimates]),
        draws=_together([e.draws for e in estimates if e.draws]),
    )


def _together(draws: list[Draws]) -> Draws | None:
    if not draws:
        return None
    return torch.cat([a for a, _ in draws]), torch.cat([b for _, b in draws])
