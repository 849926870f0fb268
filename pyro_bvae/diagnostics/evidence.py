"""What running a pair once shows: its traces, its parameters and their gradients."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pyro
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from pyro.util import get_rng_state, set_rng_state
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pyro_bvae.training.notices import said
from pyro_bvae.training.parameters import parameters_in
from pyro_bvae.training.surroundings import Modules
from pyro_bvae.types import Pair

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what, in a word.
        verdict: "ok", "warning" or "problem".
        sentence: what was found.
        advice: what to do about it; empty if it is ok.
    """

    name: str
    verdict: Verdict
    sentence: str
    advice: str = ""


@dataclass(frozen=True)
class Evidence:
    """A pair, its arguments, and the traces of one run of guide and model."""

    pair: Pair
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    guide: Trace
    model: Trace

    def call(self, function: Callable[..., Any]) -> Any:
        """Call a function of model, guide and their arguments."""
        return function(*self.pair, *self.args, **self.kwargs)

    def latents(self, which: Literal["model", "guide"]) -> dict[str, Any]:
        """Return the latent sites of one of the two by name."""
        trace = self.model if which == "model" else self.guide
        return {
            name: site
            for name, site in trace.nodes.items()
            if site["type"] == "sample" and not site["is_observed"]
        }

    def shared(self) -> list[tuple[str, Any, Any]]:
        """Return name, model's site and guide's site of every latent that both have."""
        model, guide = self.latents("model"), self.latents("guide")
        return [(name, site, guide[name]) for name, site in model.items() if name in guide]

    def observed(self) -> dict[str, Any]:
        """Return the model's observed sites by name."""
        nodes: dict[str, Any] = self.model.nodes
        return {
            name: site
            for name, site in nodes.items()
            if site["type"] == "sample"
            and site["is_observed"]
            and not site["infer"].get("_deterministic")
        }


def gather(pair: Pair, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Evidence | Finding:
    """Run guide and model once; return what they did, or what stopped them."""
    part = "guide"
    try:
        guide = poutine.trace(pair.guide).get_trace(*args, **kwargs)
        part = "model"
        replayed = poutine.replay(pair.model, trace=guide)
        model = poutine.trace(replayed).get_trace(*args, **kwargs)
    except Exception as error:
        return Finding(
            "run",
            "problem",
            f"The {part} raised {type(error).__name__}: {said(error)}",
            f"Call the {part} by hand with these arguments; model and guide take the same ones.",
        )
    return Evidence(pair, args, kwargs, prune_subsample_sites(guide), prune_subsample_sites(model))


@dataclass(frozen=True)
class Gradients:
    """The loss, and what it gives a gradient.

    Attributes:
        loss: Pyro's `Trace_ELBO` of the pair, in nats.
        registered: the parameters that Pyro was shown, by name.
        idle: names of those whose gradient is None or zero.
        unregistered: parameters that have a gradient and that Pyro was not shown, each with the
            name its own module has for it.
        differentiable: whether the loss depends on anything that takes a gradient.
    """

    loss: float
    registered: Mapping[str, Tensor]
    idle: list[str]
    unregistered: list[tuple[str, Tensor]]
    differentiable: bool


def gradients(evidence: Evidence) -> Gradients:
    """Compute the loss once, with gradients, and say where these arrive."""
    modules = Modules(*evidence.pair)
    with modules.watched(), poutine.trace(param_only=True) as captured:
        loss = evidence.call(Trace_ELBO().differentiable_loss)
    registered = parameters_in(captured.trace)
    seen = {id(p) for p in registered.values()}
    others = {key: named for key, named in modules.parameters().items() if named[1].requires_grad}
    leaves = [*registered.values(), *(p for _, p in others.values())]
    if not loss.requires_grad:
        return Gradients(float(loss), registered, list(registered), [], False)
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    reached = {
        id(leaf)
        for leaf, gradient in zip(leaves, found, strict=True)
        if gradient is not None and bool(gradient.abs().sum() != 0)
    }
    idle = [name for name, parameter in registered.items() if id(parameter) not in reached]
    unseen = [named for key, named in others.items() if key not in seen and key in reached]
    return Gradients(float(loss), registered, idle, unseen, True)


@contextmanager
def isolated() -> Iterator[None]:
    """Put back afterwards what a run changes.

    These are random states, Pyro's parameter store, and the parameters, gradients and buffers of
    modules that are called.
    """
    store = pyro.get_param_store()
    state, cuda = get_rng_state(), torch.cuda.is_initialized()
    devices = torch.cuda.get_rng_state_all() if cuda else []
    kept: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}

    def keep(tensor: Tensor) -> None:
        if id(tensor) not in kept:
            kept[id(tensor)] = (tensor, tensor.detach().clone(), tensor.grad)
            tensor.grad = None

    def keep_all(module: nn.Module, _: object) -> None:
        for tensor in (*module.parameters(), *module.buffers()):
            keep(tensor)

    for _, parameter in store.named_parameters():
        keep(parameter)
    handle = register_module_forward_pre_hook(keep_all)
    try:
        with store.scope(store.get_state()), warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        handle.remove()
        for tensor, value, gradient in kept.values():
            with torch.no_grad():
                tensor.copy_(value)
            tensor.grad = gradient
        set_rng_state(state)
        if cuda:
            torch.cuda.set_rng_state_all(devices)


@contextmanager
def unchanged(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Give parameters their values and gradients back afterwards."""
    kept = [(p, p.detach().clone(), p.grad) for p in parameters]
    for parameter, _, _ in kept:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, value, gradient in kept:
            with torch.no_grad():
                parameter.copy_(value)
            parameter.grad = gradient


def names(words: Any, *, most: int = 4) -> str:
    """Name things in a sentence, at most so many of them.

    >>> names(["a", "b"])
    "'a' and 'b'"
    >>> names("abcdef", most=2)
    "'a', 'b' and 4 more"
    """
    quoted = [repr(word) for word in words]
    if len(quoted) > most:
        quoted = [*quoted[:most], f"{len(quoted) - most} more"]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
