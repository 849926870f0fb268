"""Findings on what model and guide sample: sites, shapes, plates, draws and β."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from pyro.util import check_model_guide_match
from torch import Tensor

from pyro_bvae.beta import VECTORISATION_PLATES
from pyro_bvae.diagnostics.auxiliary import INSTEAD, unmatched_draws
from pyro_bvae.diagnostics.evidence import Evidence, Finding, names
from pyro_bvae.objectives.sites import check_shapes


def structure_findings(evidence: Evidence) -> Iterator[Finding]:
    """Look at the sites of one run."""
    yield _sites(evidence)
    yield _shapes(evidence)
    yield _plates(evidence)
    yield _draws(evidence)
    yield _beta(evidence)


def _sites(evidence: Evidence) -> Finding:
    model, guide = evidence.latents("model"), evidence.latents("guide")
    missing = sorted(set(model) - set(guide))
    extra = sorted(
        name for name in set(guide) - set(model) if not guide[name]["infer"].get("is_auxiliary")
    )
    if not evidence.observed():
        return Finding(
            "sites",
            "problem",
            "The model observes nothing, so there is nothing to learn from.",
            "Give the data to a site as obs=, or condition the model on them.",
        )
    if missing:
        return Finding(
            "sites",
            "problem",
            f"The guide lacks the latent sites {names(missing)} of the model.",
            "Sample every latent site of the model in the guide, under the same name.",
        )
    if extra:
        return Finding(
            "sites",
            "problem",
            f"The guide has the sites {names(extra)}, which are no latent sites of the model.",
            'Remove them, name them as the model does, or mark them infer={"is_auxiliary": True}.',
        )
    if unmatched := unmatched_draws(guide, model):
        return Finding(
            "sites",
            "problem",
            f"The guide also draws {names(unmatched)}, whose density the model has nothing to "
            "weigh against, so the loss is no bound of anything.",
            INSTEAD[0].upper() + INSTEAD[1:] + ".",
        )
    if not model:
        return Finding(
            "sites",
            "warning",
            f"There are no latent sites; the model only observes {names(evidence.observed())}.",
            "A β-VAE has a latent site, sampled in model and guide.",
        )
    return Finding(
        "sites",
        "ok",
        f"Model and guide have the same latent sites, {names(model)}; the model observes "
        f"{names(evidence.observed())}.",
    )


def _shapes(evidence: Evidence) -> Finding:
    try:
        check_model_guide_match(evidence.model, evidence.guide)
        for trace in (evidence.model, evidence.guide):
            check_shapes(trace, max_plate_nesting=math.inf)
    except ValueError as error:
        return Finding(
            "shapes",
            "problem",
            f"Shapes do not agree: {' '.join(str(error).split())}",
            "Batch dimensions belong to plates; declare all others with .to_event(n).",
        )
    return Finding("shapes", "ok", "Batch shapes are those of the plates, on both sides.")


def _plates(evidence: Evidence) -> Finding:
    for name, model, guide in evidence.shared():
        mine, others = _frames(model), _frames(guide)
        if mine != others:
            return Finding(
                "plates",
                "problem",
                f"Site {name!r} is in plates {_words(mine)} in the model and {_words(others)} in "
                "the guide.",
                "Use the same plates, of the same sizes, on both sides.",
            )
    latent = {n: _frames(site) for n, site in evidence.latents("model").items()}
    data: dict[str, int] = {}
    for site in evidence.observed().values():
        data |= _frames(site)
    if not data:
        return Finding(
            "plates",
            "warning",
            "No observed site is in a plate, so losses count as those of a single datum.",
            'Put what belongs to one datum into pyro.plate("data", len(x)).',
        )
    away = [n for n, frames in latent.items() if frames and not set(frames) & set(data)]
    if away:
        return Finding(
            "plates",
            "warning",
            f"The latent sites {names(away)} are in plates that hold no data.",
            'If they are local to a datum use the plate of the data; β must name them: {"z": 4.0}.',
        )
    local = [name for name, frames in latent.items() if frames]
    which = f"each datum has its own {names(local)}" if local else "all latent sites are global"
    return Finding("plates", "ok", f"The data are in plates {_words(data)}; {which}.")


def _draws(evidence: Evidence) -> Finding:
    stuck = [
        f"{name} ({type(site['fn']).__name__})"
        for name, site in evidence.latents("guide").items()
        if not getattr(site["fn"], "has_rsample", False)
    ]
    if stuck:
        return Finding(
            "reparameterised",
            "warning",
            f"The guide's draws at {', '.join(stuck)} carry no gradient.",
            "The objectives here refuse such a site; use pyro.infer.TraceGraph_ELBO, sum it out "
            "with TraceEnum_ELBO, or use a relaxed distribution.",
        )
    return Finding("reparameterised", "ok", "Every draw of the guide is reparameterised.")


def _beta(evidence: Evidence) -> Finding:
    shared = evidence.shared()
    for name, model, guide in shared:
        mine, others = _price(model), _price(guide)
        if mine.shape != others.shape or not torch.allclose(mine, others):
            return Finding(
                "beta",
                "problem",
                f"Site {name!r} weighs {mine.mean():g} in the model and {others.mean():g} in the "
                "guide, so the loss is no bound of anything.",
                "Apply tempered(pair, beta), or any scale handler, to both functions.",
            )
    notes = {name: float(model.get("beta", 1.0)) for name, model, _ in shared if "beta" in model}
    by_hand = {name: _price(m) - notes.get(name, 1.0) for name, m, _ in shared}
    unexplained = [n for n, rest in by_hand.items() if rest.numel() == 1 and abs(rest) > 1e-6]
    if unexplained:
        return Finding(
            "beta",
            "warning",
            f"The sites {names(unexplained)} are scaled by a handler that says nothing of it, so "
            "the ELBO at β = 1 cannot be told from the loss.",
            "Leave β to tempered(pair, beta); for subsampled data use the plate's own size.",
        )
    if not notes:
        return Finding("beta", "ok", "The pair is not tempered: β = 1 on every site.")
    words = ", ".join(f"{beta:g} on {name!r}" for name, beta in notes.items())
    return Finding("beta", "ok", f"β is {words}, in model and guide alike.")


def _frames(site: Any) -> dict[str, int]:
    """Return the plates of a site: name to size."""
    frames = [f for f in site["cond_indep_stack"] if f.name not in VECTORISATION_PLATES]
    return {frame.name: frame.size for frame in frames}


def _price(site: Any) -> Tensor:
    """Return what a site's log-probability is multiplied by, beyond what its plates ask for."""
    plates = math.prod(
        (f.full_size or f.size) / f.size for f in site["cond_indep_stack"] if f.size > 0
    )
    return torch.as_tensor(site["scale"], dtype=torch.float64).detach() / plates


def _words(frames: dict[str, int]) -> str:
    return ", ".join(f"{name!r} (size {size})" for name, size in frames.items()) or "none"
