"""A guide's distribution for each datum, its own parameters optimised: the best of the family."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from pyro.distributions import Independent
from torch import Tensor
from torch.distributions import transform_to
from torch.distributions.constraints import is_dependent

from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.joint import LogJoint
from pyro_bvae.diagnostics.target import Target
from pyro_bvae.diagnostics.traces import run
from pyro_bvae.training.recording import record
from pyro_bvae.types import Distribution

_WHOLE = "for the gap as a whole take log_evidence of the pair less its ELBO"
_REDUNDANT = {"covariance_matrix", "precision_matrix", "probs"}
Build = Callable[[Sequence[Tensor]], Any]


class Family(NamedTuple):
    """A distribution as the unconstrained tensors `start` and the function that makes it of them.

    `build([t.detach() for t in tensors])` is the same distribution without their gradients.
    """

    start: list[Tensor]
    build: Build


def family_of(fn: Distribution) -> Family:
    """Take a distribution apart into its parameters and a function from these to one like it.

    Raises: ValueError if it has no reparameterised draws, or is not made of tensor parameters.

    >>> import pyro.distributions as dist
    >>> start, build = family_of(dist.Normal(torch.zeros(3), 2.0).to_event(1))
    >>> build([start[0] + 1, start[1]])
    Independent(Normal(loc: torch.Size([3]), scale: torch.Size([3])), 1)
    """
    if isinstance(fn, Independent):
        inner, events = family_of(fn.base_dist), fn.reinterpreted_batch_ndims
        return Family(inner.start, lambda tensors: inner.build(tensors).to_event(events))
    names, make = _parameters(fn), cast(Any, type(fn))
    if not names or not getattr(fn, "has_rsample", False) or fn.has_enumerate_support:
        raise ValueError(
            f"guide: cannot refine a {type(fn).__name__}; expected a distribution with "
            "reparameterised draws that its tensor parameters make up, such as a Normal, a "
            f"MultivariateNormal or a LowRankMultivariateNormal; {_WHOLE}"
        )
    transforms = [transform_to(make.arg_constraints[name]) for name in names]
    values = [getattr(fn, name).detach() for name in names]

    def build(tensors: Sequence[Tensor]) -> Any:
        pairs = zip(names, transforms, tensors, strict=True)
        return make(**{name: transform(tensor) for name, transform, tensor in pairs})

    return Family([t.inv(v).clone() for t, v in zip(transforms, values, strict=True)], build)


def families_of(sampler: Sampler, args: tuple[Tensor, ...]) -> dict[str, Family]:
    """Return the family of each latent in the plate of the data, as the guide has it for `args`.

    Raises: ValueError as `family_of`, or if a latent is discrete or depends on what is drawn.
    """
    if sampler.layout.discrete:
        raise ValueError(
            f"guide: cannot refine {sorted(sampler.layout.discrete)}, discrete latent sites, with "
            f"gradients; {_WHOLE}"
        )
    traces: list[dict[str, Any]]
    traces = [run(sampler.pair, args, values=sampler.shared).guide.nodes for _ in range(2)]
    families = {}
    for name in sampler.layout.local:
        one, two = (family_of(sites[name]["fn"]) for sites in traces)
        if not all(torch.equal(a, b) for a, b in zip(one.start, two.start, strict=True)):
            raise ValueError(
                f"guide: cannot refine site {name!r}, whose distribution depends on other draws; "
                f"expected one that depends on the data alone; {_WHOLE}"
            )
        families[name] = one
    return families


class Refined:
    """The families of some data's latents and their log weights, to be optimised or measured.

    To be made and used within `with sampler.running(seed)`.

    Attributes:
        tensors: the parameters, unconstrained, of every latent in turn.
    """

    def __init__(self, sampler: Sampler, indices: Tensor, copies: int, target: Target) -> None:
        self.families = families_of(sampler, sampler.arguments(indices))
        self.joint, self.target = LogJoint(sampler, indices, copies), target
        self.tensors = [t for family in self.families.values() for t in family.start]

    def log_weights(self, tensors: Sequence[Tensor], *, path: bool = False) -> Tensor:
        """Draw, and return log p(z) + (1/β) log p(x|z) − log q(z), `[copies, data]`, nats.

        With `path`, the parameters of log q carry no gradient: the path derivative, whose variance
        vanishes as q becomes the target (Roeder, Wu, Duvenaud 2017, Sticking the Landing).
        """
        copies, data = self.joint.copies, self.joint.data
        latents, log_q, given = {}, torch.zeros(()), list(tensors)
        for name, family in self.families.items():
            own, given = given[: len(family.start)], given[len(family.start) :]
            value = family.build(own).rsample((copies,))
            scored = family.build([t.detach() for t in own] if path else own)
            log_q = log_q + self._by_datum(scored.log_prob(value))
            latents[name] = self.joint.rows_of(value, name)
        log_prior, log_likelihood = self.joint.log_probs(latents)
        total = (log_prior + self.target.power * log_likelihood)[:, 0]
        return total.reshape(copies, data) - log_q

    def optimise(self, *, steps: int, learning_rate: float) -> list[Tensor]:
        """Return the parameters after steps of Adam on the ELBO, its rate falling to 0."""
        parameters = [t.clone().requires_grad_() for t in self.tensors]
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
                loss = -self.log_weights(leaves, path=True).mean(0).sum()
                return list(torch.autograd.grad(loss, leaves))

        try:
            recording = record(eager, [p.detach() for p in parameters])
        except Exception:  # of any kind: a pair that cannot be recorded runs as it is
            return lambda given: eager(*given)
        return replace(recording, outputs=[])

    def _by_datum(self, log_prob: Tensor) -> Tensor:
        """Sum log-probabilities `[copies, *batch shape]` over all but the data."""
        dim = self.joint.sampler.layout.dim
        moved = log_prob.movedim(dim, 1)
        return moved.reshape(*moved.shape[:2], -1).sum(2)


def _parameters(fn: Any) -> list[str]:
    """Return the names of the tensors that a distribution is made of; none if of other things."""
    constraints = type(fn).arg_constraints
    if not isinstance(constraints, Mapping):
        return []
    taken = inspect.signature(type(fn).__init__).parameters
    names = [name for name in constraints if name in taken and name not in _REDUNDANT]
    needed = {name for name, given in taken.items() if given.default is given.empty}
    whole = needed - {"self", "args", "kwargs"} <= set(names)
    whole = whole and not any(is_dependent(constraints[name]) for name in names)
    return names if whole and all(isinstance(getattr(fn, n), Tensor) for n in names) else []
