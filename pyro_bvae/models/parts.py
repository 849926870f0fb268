"""What every model does alike: check its parts and its data, and open the plate of the data."""

import inspect
from typing import Any

import pyro
import torch
from pyro.poutine.util import is_validation_enabled
from torch import Tensor, nn

from pyro_bvae.checks import check_data, check_size
from pyro_bvae.likelihoods import Likelihood
from pyro_bvae.posteriors import Posterior
from pyro_bvae.posteriors.noted import made_of
from pyro_bvae.priors import Prior
from pyro_bvae.types import Distribution


def check_parts(prior: Any, likelihood: Any, posterior: Any) -> None:
    """Raise unless the three are of their kinds and fit each other.

    Raises: TypeError for a part of another kind; ValueError for another number of latents.
    """
    check_part("prior", prior, Prior)
    check_part("likelihood", likelihood, Likelihood)
    check_part("posterior", posterior, Posterior)
    if prior.latents != posterior.latents:
        raise ValueError(
            f"posterior: expected the prior's {prior.latents} latents, got {posterior.latents}"
        )
    prior.check_parts(likelihood, posterior)
    posterior.check_parts(prior, likelihood)


def check_part(name: str, part: Any, kind: type[nn.Module]) -> None:
    """Raise TypeError unless the part is of its kind."""
    if not isinstance(part, kind):
        raise TypeError(
            f"{name}: expected a {kind.__name__}, got {type(part).__name__}; a network "
            "goes into a likelihood or a posterior, a module of your own subclasses one"
        )


def check_decoder(likelihood: Likelihood, width: int, what: str) -> None:
    """Raise ValueError if the decoder says that it takes codes of another width."""
    expected = getattr(likelihood.decoder, "latents", width)
    if expected != width:
        raise ValueError(
            f"likelihood: expected a decoder of {width} numbers, {what}, got one of {expected}"
        )


def check_observed(x: Tensor, likelihood: Likelihood, name: str = "x") -> None:
    """Raise unless x is data; with Pyro's validation on, data that the likelihood can draw."""
    try:
        check_data(x, integers=likelihood.integers)
        if is_validation_enabled():
            likelihood.check(x)
    except (TypeError, ValueError) as error:
        if name == "x":
            raise
        raise type(error)(f"{name}, the likelihood's x: {error}") from error


def check_shape(x: Tensor, likelihood: Distribution, name: str = "x") -> None:
    """Raise ValueError if x has another shape than the likelihood draws."""
    shape = likelihood.event_shape
    if x.shape[1:] != shape:
        raise ValueError(
            f"{name}: expected shape [{', '.join(map(str, ('batch', *shape)))}], which is what the "
            f"likelihood draws, got {list(x.shape)}; reshape {name} or change the decoder"
        )


def check_context(context: tuple[Tensor, ...], batch: int | None) -> None:
    """Raise unless there is a context, with a row for each datum.

    Raises: TypeError if there is none or it is no tensor; ValueError for another length.
    """
    if not context:
        raise TypeError("context: expected at least one tensor [batch, ...], got none")
    for one in context:
        if not isinstance(one, Tensor):
            raise TypeError(f"context: expected tensors [batch, ...], got {type(one).__name__}")
        rows = len(one) if one.dim() else 0
        if rows == 0 or rows != (batch or rows):
            raise ValueError(
                f"context: expected {batch or 'at least one'} rows, one for each datum, got shape "
                f"{list(one.shape)}"
            )


def check_takes_context(name: str, network: Any) -> None:
    """Raise TypeError if the network is a module that takes no context beside its input."""
    if not isinstance(network, nn.Module):
        return
    try:
        inspect.signature(network.forward).bind(None, None)
    except TypeError as error:
        wrapper = f"Context{name.title()}({name}, ...)"
        raise TypeError(
            f"{name}: expected a network of two arguments, the second the context, got a "
            f"{type(network).__name__}; wrap it as {wrapper}, or as NoContext({name}) to leave the "
            "context out"
        ) from error


def data_plate(rows: Tensor | None, size: int | None) -> pyro.plate:
    """Return the plate "data": the rows of a batch, drawn from `size` data, or `size` new ones.

    Raises: ValueError if size is not a whole number ≥ 1, or smaller than the batch.
    """
    check_size(size)
    if rows is None:
        return pyro.plate("data", size or 1)
    if size is None:
        return pyro.plate("data", len(rows))
    if size < len(rows):
        raise ValueError(f"size: expected at least the batch's {len(rows)} data, got {size}")
    subsample = torch.arange(len(rows), device=rows.device)
    return pyro.plate("data", size, subsample=subsample)


def under_plates(part: Any, *inputs: Tensor, batch: torch.Size) -> Distribution:
    """Call an amortised part on inputs that have several batch dimensions, `batch` in all.

    The part is one with `amortised`, numbers from flat inputs, and `family`, what they stand for.
    """
    flat = [x.reshape(-1, *x.shape[len(batch) :]) for x in inputs]
    return made_of(part.family, part.amortised(*flat).reshape(*batch, -1))
