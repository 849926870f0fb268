"""Findings on what training a pair would do: loss, gradients, parameters, estimators, recording."""

import math
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

from pyro_bvae.diagnostics.evidence import Evidence, Finding, Gradients, gradients, names, unchanged
from pyro_bvae.objectives import ELBO
from pyro_bvae.training.notices import said
from pyro_bvae.training.svi import CompiledSVI

_DRAWS = 32
_ERRORS = 5.0


def trainability_findings(evidence: Evidence) -> Iterator[Finding]:
    """Look at the loss, where its gradients go, and whether a step can be recorded."""
    found = gradients(evidence)
    yield _loss(found)
    registered = _parameters(found)
    yield registered
    if registered.verdict != "warning":
        yield _gradients(found)
    yield _store(found)
    if math.isfinite(found.loss):
        yield _estimators(evidence)
    if registered.verdict == "ok":
        with unchanged(found.registered.values()):
            static = _static(evidence)
        yield static


def _loss(found: Gradients) -> Finding:
    if math.isfinite(found.loss):
        return Finding("loss", "ok", f"The loss is finite: {found.loss:.4g} nats for this batch.")
    return Finding(
        "loss",
        "problem",
        f"The loss is {found.loss}.",
        "Look for a scale that reaches 0, data outside the likelihood's support, or NaN in them.",
    )


def _parameters(found: Gradients) -> Finding:
    if not found.registered and not found.differentiable:
        return Finding(
            "parameters",
            "warning",
            "The pair has no parameters: diagnostics take it, but there is nothing to train.",
            "To train it, register networks with pyro.module and tensors with pyro.param.",
        )
    if not found.registered:
        return Finding(
            "parameters",
            "problem",
            "Pyro sees no parameters, so nothing would be trained.",
            "Register networks with pyro.module and tensors with pyro.param; of a PyroModule pass "
            "the module, not its bound methods.",
        )
    clobbered = [name for name in found.idle if _is_double(name, found)]
    if clobbered:
        return Finding(
            "parameters",
            "problem",
            f"The parameters {names(clobbered)} in Pyro's store are other tensors than the ones in "
            "use, so the networks would never be trained: another pair has taken these names.",
            "Call pyro.clear_param_store() first, or give pyro.module a name of its own.",
        )
    if found.unregistered:
        words = names(f"{name} {list(p.shape)}" for name, p in found.unregistered)
        return Finding(
            "parameters",
            "problem",
            f"The parameters {words} are in use, but Pyro is not shown them.",
            "Register their module with pyro.module in the model or in the guide; to keep it as "
            "it is, set requires_grad_(False).",
        )
    return Finding(
        "parameters", "ok", f"Pyro sees {len(found.registered)} parameters, those in use."
    )


def _is_double(name: str, found: Gradients) -> bool:
    """Whether a parameter without gradient has the name and shape of one in use that has none."""
    local, shape = re.split(r"\.|\$\$\$", name)[-1], found.registered[name].shape
    return any(local == other and shape == p.shape for other, p in found.unregistered)


def _gradients(found: Gradients) -> Finding:
    if not found.idle:
        return Finding("gradients", "ok", "The loss gives every parameter a gradient.")
    all_of_them = len(found.idle) == len(found.registered)
    return Finding(
        "gradients",
        "problem" if all_of_them else "warning",
        f"No gradient reaches {'any parameter' if all_of_them else names(found.idle, most=8)}.",
        "Is the parameter used, and its path free of .detach(), torch.no_grad() and units that "
        "are off for all the data?",
    )


def _store(found: Gradients) -> Finding:
    stored = set(pyro.get_param_store().keys())
    mine = sorted({name.split("$$$")[0] for name in found.registered if name in stored})
    if mine:
        return Finding(
            "store",
            "warning",
            f"Parameters live in Pyro's global store as {names(mine)}: a second pair of this "
            "process that uses the same names would train these and not its own.",
            "Call pyro.clear_param_store() between pairs, or give each pair names of its own.",
        )
    return Finding("store", "ok", "Nothing is left in Pyro's parameter store.")


def _estimators(evidence: Evidence) -> Finding:
    draws = {
        type(estimator).__name__: _losses(evidence, estimator)
        for estimator in (Trace_ELBO(), TraceMeanField_ELBO(), ELBO())
    }
    values = {name: found for name, found in draws.items() if isinstance(found, Tensor)}
    refused = {name: found for name, found in draws.items() if isinstance(found, str)}
    first = values.pop("Trace_ELBO", None)
    for name, other in values.items():
        if first is None or _agree(first, other):
            continue
        return Finding(
            "estimators",
            "problem",
            f"pyro.infer.Trace_ELBO and {name} differ: {first.mean():.6g} and "
            f"{other.mean():.6g} nats, more than {_ERRORS:g} standard errors over {_DRAWS} draws "
            "(same seeds).",
            "A closed-form KL reads only the distributions: weigh both sides alike, sample in the "
            "same order in model and guide, and look for a pyro.factor or a Delta in the guide.",
        )
    if refused:
        name, why = next(iter(refused.items()))
        return Finding(
            "estimators",
            "warning",
            f"{name} cannot be used: {why}",
            f"Train with {names(draws.keys() - refused.keys())}."
            if len(refused) < len(draws)
            else "Look at the other findings first.",
        )
    return Finding(
        "estimators",
        "ok",
        f"Pyro's Trace_ELBO and TraceMeanField_ELBO and our ELBO agree within {_ERRORS:g} standard "
        f"errors over {_DRAWS} draws.",
    )


@torch.no_grad()
def _losses(evidence: Evidence, estimator: Any) -> Tensor | str:
    """Return the loss of every draw, seeded alike for every estimator, or why there is none."""
    found = []
    for seed in range(_DRAWS):
        pyro.set_rng_seed(seed)
        try:
            found.append(evidence.call(estimator.loss))
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(said(error).split())}"
    return torch.tensor(found, dtype=torch.float64)


def _agree(a: Tensor, b: Tensor) -> bool:
    """Whether two estimators have one mean: their paired differences are 0 within their errors."""
    difference = a - b
    error = float(difference.std()) / len(a) ** 0.5
    rounding = 1e-5 * float(a.abs().mean() + b.abs().mean())
    return abs(float(difference.mean())) <= _ERRORS * error + rounding


def _static(evidence: Evidence) -> Finding:
    still = partial(torch.optim.SGD, lr=0.0)
    svi = CompiledSVI(*evidence.pair, still, loss=Trace_ELBO(), mode="recorded")
    try:
        for _ in range(3):
            svi.step(*evidence.args, **evidence.kwargs)
        why = svi.fallback
    except Exception as error:
        why = f"{type(error).__name__}: {said(error)}"
    if why is not None:
        return Finding(
            "static",
            "warning",
            f"A step cannot be recorded as one graph: {' '.join(why.split())}",
            "CompiledSVI will take Pyro's own steps, which are slower and as right; make shapes "
            "and control flow independent of the data's values to have it record them.",
        )
    return Finding("static", "ok", "Its steps are static: CompiledSVI records and compiles them.")
