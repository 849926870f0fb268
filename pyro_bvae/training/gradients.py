"""Gradients on their way from the loss to the optimiser: in parts, over processes, clipped."""

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from pyro_bvae.checks import check_count
from pyro_bvae.training.distributed import Group
from pyro_bvae.training.step import DRAWS

Terms = Mapping[str, Tensor]


def check_clip_norm(clip_norm: Any) -> float | None:
    """Return a norm to clip to, or None; ValueError unless it is a finite number > 0."""
    if clip_norm is None:
        return None
    real = isinstance(clip_norm, Real) and not isinstance(clip_norm, bool)
    if not real or not 0 < clip_norm < float("inf"):
        raise ValueError(f"clip_norm: expected a finite number > 0 or None, got {clip_norm!r}")
    return float(clip_norm)


class Gradients:
    """How a step comes to its gradients.

    A batch in parts gives the gradient of the whole if the loss is a mean over data, as that of
    an `ELBO` is; global latents must be told of all data, by `size`. Estimates that compare the
    data of a batch, and batch normalisation, see a part at a time.

    Args:
        accumulate: in how many parts a batch is run, each a backward pass of its own.
        clip_norm: the largest norm that the gradient of all parameters together keeps; a longer
            one is shortened to it.
        group: the processes over which gradients are averaged, before they are clipped.

    Raises: ValueError for parts that are no whole number ≥ 1, or a norm that is not > 0.

    References:
        Pascanu, Mikolov, Bengio (2013), On the difficulty of training recurrent neural networks.

    >>> weight = torch.zeros(2, requires_grad=True)
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> Gradients(clip_norm=1.0).inside([weight])
    >>> weight.grad
    tensor([0.6000, 0.8000])
    """

    def __init__(
        self, *, accumulate: int = 1, clip_norm: float | None = None, group: Group | None = None
    ) -> None:
        self.accumulate = check_count(accumulate, "accumulate")
        self.clip_norm = check_clip_norm(clip_norm)
        self.group = group or Group()

    @property
    def leave_the_graph(self) -> bool:
        """Whether something must be done with gradients that no recording may hold."""
        return self.group.size > 1

    def add(
        self, evaluate: Callable[..., tuple[Tensor, Terms]], *pair: Any, args: Any, kwargs: Any
    ) -> tuple[Tensor, Terms]:
        """Add the gradients of `evaluate`'s loss; return it, and its terms.

        Of a batch in parts these are means over the parts, which are those of the batch if they
        are means over data.
        """
        if self.accumulate == 1:
            return _backward(evaluate(*pair, *args, **kwargs), parts=1)
        chunks = zip(*(a.chunk(self.accumulate) for a in args), strict=True)
        found = [
            _backward(evaluate(*pair, *chunk, **kwargs), parts=self.accumulate) for chunk in chunks
        ]
        loss = torch.stack([loss.detach() for loss, _ in found]).mean()
        return loss, {
            name: _together(name, [terms[name].detach() for _, terms in found])
            for name in found[0][1]
        }

    def inside(self, parameters: Iterable[Tensor]) -> None:
        """Do what a recording can hold, right after the backward pass."""
        if not self.leave_the_graph:
            self._clip(parameters)

    def outside(self, parameters: Iterable[Tensor]) -> None:
        """Do the rest, right before the optimiser's step."""
        if self.leave_the_graph:
            parameters = list(parameters)
            self.group.average_gradients(parameters)
            self._clip(parameters)

    def _clip(self, parameters: Iterable[Tensor]) -> None:
        if self.clip_norm is not None:
            clip_grad_norm_(parameters, self.clip_norm)


def _backward(found: tuple[Tensor, Terms], *, parts: int) -> tuple[Tensor, Terms]:
    loss, _ = found
    if loss.requires_grad:
        (loss if parts == 1 else loss / parts).backward()
    return found


def _together(name: str, values: list[Tensor]) -> Tensor:
    return torch.cat(values) if name in DRAWS else torch.stack(values).mean(0)
