"""Distributions taken apart into unconstrained tensors, and made again of others."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from pyro.distributions import Delta, MaskedDistribution
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MixtureSameFamily,
    TransformedDistribution,
    transform_to,
)
from torch.distributions.constraints import is_dependent

from pyro_bvae.diagnostics.supports import is_discrete
from pyro_bvae.models.partly_known import PartlyKnown
from pyro_bvae.posteriors.noted import Source, source_of

WHOLE = "for the gap as a whole take log_evidence of the pair less its ELBO"
_WHOLES = (
    Independent,
    MaskedDistribution,
    MixtureSameFamily,
    PartlyKnown,
    TransformedDistribution,
)
_REDUNDANT = {"covariance_matrix", "precision_matrix", "probs"}
_OTHER = {"self", "args", "kwargs", "validate_args"}
Build = Callable[[Sequence[Tensor]], Any]


class Family(NamedTuple):
    """A distribution as unconstrained tensors, and the function that makes one like it of others.

    Attributes:
        start: the tensors, each of the distribution's batch shape and more dimensions.
        build: from such tensors to a distribution.
        offsets: `build` of start + offsets is the distribution itself. Zeros, but of a
            `RefinedPosterior` what its own steps add to its encoder's numbers.
    """

    start: list[Tensor]
    build: Build
    offsets: list[Tensor]


def family_of(fn: Any) -> Family:
    """Take a distribution apart into its parameters and a function from these to one like it.

    Of an `AmortisedPosterior` these are the numbers λ; of a mixture the parameters of both its
    parts; of a transformed distribution those of its base, its transforms being kept; of a partly
    known one those of what is not known; of a point (`Delta`) none.

    Raises: ValueError if it is none of these, nor made of tensor parameters.

    >>> import pyro.distributions as dist
    >>> start, build, _ = family_of(dist.Normal(torch.zeros(3), 2.0).to_event(1))
    >>> build([start[0] + 1, start[1]])
    Independent(Normal(loc: torch.Size([3]), scale: torch.Size([3])), 1)
    """
    if source := source_of(fn):
        return _of_numbers(fn, source)
    if isinstance(fn, Delta):
        return Family([], lambda _: fn, [])
    if names := _parameters(fn):
        return _of_tensors(fn, names)
    if isinstance(fn, ExpandedDistribution):
        return _expanded(fn, family_of(fn.base_dist))
    if isinstance(fn, _WHOLES):
        return _of_parts(fn)
    raise ValueError(
        f"guide: cannot refine a {type(fn).__name__}; expected a distribution made of tensors "
        "that its constructor takes by name and that do not bound its draws, such as a Normal, a "
        f"mixture or flow of such, or what an AmortisedPosterior returns; {WHOLE}"
    )


def _of_numbers(fn: Any, source: Source) -> Family:
    numbers = source.numbers.expand(*fn.batch_shape, -1)
    offset = torch.zeros_like(numbers) if source.offset is None else source.offset
    offsets = [offset.expand_as(numbers)]
    return Family([numbers], lambda tensors: source.family(tensors[0]), offsets)


def _of_tensors(fn: Any, names: list[str]) -> Family:
    make: Any = type(fn)
    transforms = [transform_to(make.arg_constraints[name]) for name in names]
    start = [t.inv(getattr(fn, n)) for n, t in zip(names, transforms, strict=True)]
    kept = {n: getattr(fn, n) for n in _arguments(fn) if n not in names}

    def build(tensors: Sequence[Tensor]) -> Any:
        pairs = zip(names, transforms, tensors, strict=True)
        return make(**kept, **{name: transform(tensor) for name, transform, tensor in pairs})

    return Family(start, build, [torch.zeros_like(t) for t in start])


def _of_parts(fn: Any) -> Family:
    parts = {n: part for n, part in vars(fn).items() if isinstance(part, Distribution)}
    families = {name: family_of(part) for name, part in parts.items()}

    def build(tensors: Sequence[Tensor]) -> Any:
        made, given = copy.copy(fn), iter(tensors)
        for name, family in families.items():
            setattr(made, name, family.build([next(given) for _ in family.start]))
        return made

    start = [t for family in families.values() for t in family.start]
    return Family(start, build, [t for family in families.values() for t in family.offsets])


def _expanded(fn: Any, family: Family) -> Family:
    """Give what a distribution without an `expand` of its own is made of the whole batch shape."""
    own = len(fn.base_dist.batch_shape)
    start, offsets = (
        [t.expand(*fn.batch_shape, *t.shape[own:]) for t in some]
        for some in (family.start, family.offsets)
    )
    return Family(start, family.build, offsets)


def _arguments(fn: Any) -> list[str]:
    """Return the arguments a distribution was made with that it keeps and that are not derived."""
    taken = inspect.signature(type(fn).__init__).parameters
    return [n for n in taken if n not in _REDUNDANT | _OTHER and hasattr(fn, n)]


def _parameters(fn: Any) -> list[str]:
    """Return the arguments that are tensors to be moved; none if these do not make it up."""
    constraints = type(fn).arg_constraints
    bounded = is_dependent(type(fn).support) and not is_discrete(fn)
    if not isinstance(constraints, Mapping) or bounded:
        return []
    taken = inspect.signature(type(fn).__init__).parameters
    needed = {name for name, given in taken.items() if given.default is given.empty} - _OTHER
    arguments = _arguments(fn)
    limits = {name: constraints[name] for name in arguments if name in constraints}
    if not needed <= set(arguments) or any(is_dependent(limit) for limit in limits.values()):
        return []
    names = [name for name, limit in limits.items() if not limit.is_discrete]
    return names if all(isinstance(getattr(fn, n), Tensor) for n in names) else []
