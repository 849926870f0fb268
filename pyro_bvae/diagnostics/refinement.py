"""A guide with offsets of each datum's own, optimised: the best that its families can be."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.families import WHOLE, Family, family_of
from pyro_bvae.diagnostics.layout import held, holds_data, samples, site_log_prob
from pyro_bvae.diagnostics.scored import scored
from pyro_bvae.diagnostics.supports import is_discrete
from pyro_bvae.diagnostics.target import Target
from pyro_bvae.diagnostics.traces import plate_of, run
from pyro_bvae.training.direct import direct
from pyro_bvae.training.recording import record
from pyro_bvae.types import Pair

Offsets = dict[str, list[Tensor]]


class Shifted(Messenger):
    """Add offsets to the unconstrained parameters of sites' distributions, and draw from these.

    To be put around a guide and its plates. Draws that are not reparameterised, all of discrete
    sites among them, carry no gradient.

    Args:
        offsets: for each site, one for each tensor of its `family_of`.
        path: leave the offsets' gradient out of the densities, but not that of other draws.

    Attributes:
        scores: of draws that carry no gradient, the distributions, with all gradients.
    """

    def __init__(self, offsets: Offsets, *, path: bool = False) -> None:
        super().__init__()
        self.offsets, self.path = offsets, path
        self.scores: dict[str, Any] = {}

    def _pyro_sample(self, msg: Any) -> None:
        offsets = self.offsets.get(msg["name"])
        if not offsets:
            return
        start, build, _ = family_of(msg["fn"])
        fn = build([s + o for s, o in zip(start, offsets, strict=True)])
        if is_discrete(fn) or not fn.has_rsample:
            msg["value"] = fn.sample().detach()
            self.scores[msg["name"]] = fn
        else:
            msg["value"] = fn.rsample()
        msg["done"] = True
        if self.path:
            fn = build([s + o.detach() for s, o in zip(start, offsets, strict=True)])
        msg["fn"] = fn


class Refined:
    """The guide on some data with offsets of each datum's own, and its log weights.

    To be made and used within `with sampler.running(seed)`.

    Attributes:
        start: the offsets to begin with, of every site in turn.

    Raises: ValueError if a site cannot be refined, or there is none.
    """

    def __init__(self, sampler: Sampler, indices: Tensor, copies: int, target: Target) -> None:
        self.sampler, self.target = sampler, target
        self.data, self.copies = len(indices), copies
        args = sampler.arguments(indices)
        sites = _latents(sampler, args)
        families = {name: _refinable(name, site, sampler) for name, site in sites.items()}
        self.start = [t.detach().clone() for f in families.values() for t in f.offsets]
        if not self.start:
            raise ValueError(
                f"guide: expected a latent site that is drawn, got points alone, at "
                f"{sorted(sites)}, which have no ELBO; give it a distribution of some width"
            )
        self._numbers = {name: len(family.start) for name, family in families.items()}
        self._places = {n: len(s["fn"].batch_shape) + sampler.layout.dim for n, s in sites.items()}
        self._args = args if sampler.stacks else tuple(_repeated(a, copies, 0) for a in args)

    def log_weights(self, offsets: Sequence[Tensor] | None = None) -> Tensor:
        """Draw, and return log p(z) + (1/β) log p(x|z) − log q(z), `[copies, data]`, nats.

        Without offsets, of the guide as it is.
        """
        return self._weigh(Shifted({} if offsets is None else self._by_site(offsets)))[0]

    def objective(self, offsets: Sequence[Tensor]) -> Tensor:
        """Return a number whose gradient is an unbiased estimate of the ELBO's, over all data.

        The offsets carry no gradient in log q: the path derivative, whose variance vanishes as q
        becomes the target (Roeder, Wu, Duvenaud 2017, Sticking the Landing). Draws that are not
        reparameterised add Σ_k (w_k − w̄_{−k}) ∇ log q, w_k being the log weight of copy k and
        w̄_{−k} the mean of the others' (Kool, van Hoof, Welling 2019, Buy 4 REINFORCE Samples, Get
        a Baseline for Free!).
        """
        weights, scores = self._weigh(Shifted(self._by_site(offsets), path=True))
        above = (weights - weights.mean(0)).detach() * self.copies / (self.copies - 1)
        return (weights + above * scores).mean(0).sum()

    def optimise(self, *, steps: int, learning_rate: float) -> list[Tensor]:
        """Return the offsets after steps of Adam on the ELBO, its rate falling to 0."""
        parameters = [t.clone().requires_grad_() for t in self.start]
        optimiser = torch.optim.Adam(parameters, lr=learning_rate)
        gradient = self._gradient(parameters)
        for step in range(steps):
            rate = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            optimiser.param_groups[0]["lr"] = rate
            for parameter, value in zip(parameters, gradient(parameters), strict=True):
                parameter.grad = value
            optimiser.step()
        return [p.detach() for p in parameters]

    def _gradient(self, parameters: list[Tensor]) -> Callable[..., Sequence[Tensor]]:
        """Return the function that gives the loss's gradients, recorded if it can be."""

        def eager(*tensors: Tensor) -> list[Tensor]:
            with torch.enable_grad():
                leaves = [t.detach().requires_grad_() for t in tensors]
                loss = -self.objective(leaves)
                return list(torch.autograd.grad(loss, leaves, materialize_grads=True))

        try:
            recording = record(eager, [p.detach() for p in parameters])
        except Exception:  # of any kind: a pair that cannot be recorded runs as it is
            return lambda given: eager(*given)
        recording.graph.graph.eliminate_dead_code()  # such as a RefinedPosterior's own steps
        recording.graph.recompile()
        return replace(recording, outputs=[], run=direct(recording.graph))

    def _weigh(self, shifted: Shifted) -> tuple[Tensor, Tensor]:
        """Return the log weights, and log q of the draws that carry no gradient, if any."""
        sampler, layout, together = self.sampler, self.sampler.layout, self.sampler.stacks
        batch, draws = (self.data, self.copies) if together else (self.data * self.copies, 1)
        around = plate_of(draws, layout) if together else (lambda function: function)
        model, guide = (around(function) for function in sampler.pair)
        traces = run(Pair(model, shifted(guide)), self._args, values=sampler.shared)
        weights = scored(traces, layout, batch, draws).log_weights(self.target)
        scores = torch.zeros_like(weights)
        for name, fn in shifted.scores.items():
            site = {**samples(traces.guide)[name], "fn": fn}
            scores = scores + site_log_prob(name, site, layout, batch, draws)
        return weights.reshape(self.copies, -1), scores.reshape(self.copies, -1)

    def _by_site(self, tensors: Sequence[Tensor]) -> Offsets:
        """Sort offsets to sites; for every copy, if these are rows like other data."""
        given, copies = iter(tensors), 1 if self.sampler.stacks else self.copies
        return {
            name: [_repeated(next(given), copies, self._places[name]) for _ in range(number)]
            for name, number in self._numbers.items()
        }


def _latents(sampler: Sampler, args: tuple[Tensor, ...]) -> dict[str, Any]:
    """Return what the guide draws for each datum, the auxiliary too, in one run of it."""
    trace = poutine.trace(held(sampler.pair.guide, sampler.shared)).get_trace(*args)
    return {
        name: site
        for name, site in samples(trace).items()
        if not site["is_observed"] and holds_data(site, sampler.layout, len(args[0]))
    }


def _refinable(name: str, site: Any, sampler: Sampler) -> Family:
    """Return the family of a site.

    Raises: ValueError if it has none, or is relaxed where the model has classes.
    """
    fn, family = site["fn"], family_of(site["fn"])
    if family.start and name in sampler.layout.discrete and not is_discrete(fn):
        raise ValueError(
            f"guide: expected a discrete distribution at site {name!r}, as in the model, so that "
            f"there is an ELBO, got the density of a {type(fn).__name__}; draw classes themselves, "
            "of the same logits"
        )
    made = family.build([s + o for s, o in zip(family.start, family.offsets, strict=True)])
    mine, its = (q.log_prob(site["value"]) for q in (fn, made))
    if made.batch_shape != fn.batch_shape or not torch.allclose(
        mine, its, rtol=1e-3, atol=1e-3, equal_nan=True
    ):
        raise ValueError(
            f"guide: cannot refine site {name!r}, a {type(fn).__name__} that is not what its "
            f"tensor parameters make up; {WHOLE}"
        )
    return family


def _repeated(values: Tensor, copies: int, dim: int) -> Tensor:
    """Repeat values along a dimension, `copies` times over."""
    return values if copies == 1 else torch.cat([values] * copies, dim)
