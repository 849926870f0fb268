"""The parts of a report: each a picture or a table, and what it means for this model."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_bvae import plots
from pyro_bvae.models import VAE
from pyro_bvae.models.traversal import prior_values, traverse
from pyro_bvae.plots.history import History
from pyro_bvae.report import words
from pyro_bvae.report.page import bullets, numbers, paragraph, picture, section, side_by_side, table
from pyro_bvae.report.summary import Summary

_STEPS, _REACH = 7, 3.0
_ROWS = 32
_SAMPLES = 48


def in_short(measured: Summary) -> str:
    """Return the four numbers and the sentences that matter most."""
    shown = [
        (words.number(measured.elbo), "ELBO, nats per datum"),
        (words.number(measured.reconstruction), "reconstruction, nats"),
        (words.number(measured.kl), "KL, nats"),
        (f"{measured.active} of {len(measured.kl_per_latent)}", "latents active"),
    ]
    missed = words.missed(measured)
    lost = f"No single latent tells of: {', '.join(missed)}." if missed else ""
    return section(
        "In short",
        numbers(shown),
        paragraph(*words.overall(measured)),
        paragraph(*words.latents(measured)[:1]),
        bullets(words.followers(measured)) if measured.factor_names else "",
        paragraph(lost),
    )


def settings_table(vae: VAE, settings: Mapping[str, Any] | None) -> str:
    """Return what the model is, and the settings it was trained with."""
    parameters = sum(p.numel() for p in vae.parameters() if p.requires_grad)
    model = {
        "prior p(z)": type(vae.prior).__name__,
        "likelihood p(x|z)": type(vae.likelihood).__name__,
        "posterior q(z|x)": type(vae.posterior).__name__,
        "latents": vae.prior.latents,
        "trained parameters": f"{parameters:,}",
    }
    rows = [(name, _plain(value)) for name, value in {**model, **(settings or {})}.items()]
    return section("Settings", table(["setting", "value"], rows, texts=2))


def training(history: History | None) -> str:
    """Return loss, reconstruction and KL over the steps."""
    if history is None:
        return section("Training", paragraph("No history of the training was given."))
    curves = [
        picture(
            partial(plots.history_curve, history, quantity),
            f"{quantity} over the steps of the training",
        )
        for quantity in plots.history_quantities(history)
    ]
    return section(
        "Training",
        side_by_side(curves),
        paragraph(*words.training(history)),
        paragraph(
            "Each point averages the steps since the point before. The loss is what training "
            "minimised; for the plain β-VAE it is the reconstruction plus β times the KL."
        ),
    )


def latents(measured: Summary) -> str:
    """Return the KL per latent."""
    kl = measured.kl_per_latent
    return section(
        "What each latent carries",
        picture(lambda: plots.kl_per_latent(kl), "KL per latent, in decreasing order"),
        paragraph(
            "Each bar is the mean over data of the KL of q(z|x) from the prior, in nats: what it "
            "costs to say where this latent is for a datum. z0 is the first latent."
        ),
        paragraph(*words.latents(measured)),
    )


def no_pictures(shape: tuple[int, ...]) -> str:
    """Say that the data are no images."""
    return section(
        "Pictures of data",
        paragraph(
            f"A datum has shape {list(shape)} and is no image [channels, height, width] with 1 "
            "or 3 channels, so originals, reconstructions, samples and traversals are not drawn."
        ),
    )


def pictures(vae: VAE, x: Tensor, measured: Summary, *, seed: int) -> list[str]:
    """Return reconstructions of x, samples from the prior, and traversals from x[0]."""
    low, high = min(x.min().item(), 0.0), max(x.max().item(), 1.0)

    def shown(images: Tensor) -> Tensor:
        return (images - low) / (high - low)

    outside = (low, high) != (0.0, 1.0)
    ends = words.number(low, ".3g"), words.number(high, ".3g")
    note = f"Pixels range from {ends[0]} (black) to {ends[1]} (white)." if outside else ""
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        samples = shown(vae.sample(_SAMPLES))
    return [
        _reconstructions(shown(x), shown(vae.reconstruct(x)), measured, note),
        _samples(samples, note),
        _traversals(vae, x, measured, shown),
    ]


def _reconstructions(x: Tensor, decoded: Tensor, measured: Summary, note: str) -> str:
    error = (x - decoded).square().mean().item()
    spread = (x - x.mean(0)).square().mean().item()
    explained = (
        f"For these {len(x)} the decoded pictures explain {max(1 - error / spread, 0):.0%} of the "
        "variance of the pixels around the mean picture."
        if spread > 0
        else ""
    )
    return section(
        "Reconstructions",
        picture(lambda: plots.reconstructions(x, decoded), "originals over reconstructions"),
        paragraph(
            "Below each original, the decoder's mean at the posterior's mean: neither a draw of z "
            "nor a draw of x, so what the model is unsure of looks blurred or average, not noisy.",
            f"A reconstruction costs {words.number(measured.reconstruction)} nats on average.",
            explained,
            note,
        ),
    )


def _samples(samples: Tensor, note: str) -> str:
    title = "Decoded draws from the prior"
    return section(
        "Samples from the prior",
        picture(lambda: plots.image_grid(samples, columns=8, title=title), title),
        paragraph(
            "The decoder's means at draws of z from the prior. Where they look worse than the "
            "reconstructions, the codes of the data do not fill the prior: the decoder is asked "
            "at places it was not trained at.",
            note,
        ),
    )


def _traversals(vae: VAE, x: Tensor, measured: Summary, shown: Any) -> str:
    z, values, kl = vae.encode(x[:1])[0], prior_values(vae, values=_STEPS), measured.kl_per_latent
    moved = [traverse(vae, z, latent=latent, values=row.to(z)) for latent, row in enumerate(values)]
    images, places = shown(torch.stack(moved)), np.linspace(-_REACH, _REACH, _STEPS)
    left_out = f"Only the {_ROWS} latents with the most KL are drawn." if len(kl) > _ROWS else ""
    return section(
        "Traversals",
        picture(
            lambda: plots.traversals(images, places, kl, rows=_ROWS),
            "decoded images while one latent moves, a row per latent in decreasing KL",
        ),
        paragraph(
            "Each row starts from the code of the first original above and moves one latent from "
            "−3 to 3 standard deviations of the prior, the others held.",
            "A latent that stands for one property changes that property alone; a row in which "
            "nothing changes is a latent the decoder does not use.",
            "From another original the rows may look different.",
            left_out,
        ),
    )


def factors(measured: Summary) -> str:
    """Return what the latents tell of the known factors."""
    if not measured.factor_names:
        return section(
            "Known factors",
            paragraph("The data come with no known factors that vary, so nothing is compared."),
        )
    kl, given = measured.kl_per_latent, measured.factor_names
    most = max(float(measured.entropy.max()), 1e-9)
    title = "Mutual information, in nats"
    return section(
        "Known factors",
        paragraph(
            f"What the posterior means of {measured.data:,} random data tell of the factors the "
            "data were made from. The model never saw these."
        ),
        table(
            ["factor", "best latent", "R²", "tells most", "nats told"],
            _rows(measured),
        ),
        bullets(words.factors(measured)),
        picture(
            lambda: plots.factor_matrix(measured.r2, given, kl=kl),
            "R² of each latent with each factor",
        ),
        picture(
            lambda: plots.factor_matrix(
                measured.mutual_information, given, kl=kl, title=title, limit=most
            ),
            "mutual information of each latent with each factor",
        ),
        paragraph("How to read these numbers:"),
        bullets(words.caveats(measured)),
    )


def _rows(measured: Summary) -> list[list[str]]:
    best, most = measured.best_latent, measured.most_informative_latent
    rows = []
    for j, (name, z, knows) in enumerate(zip(measured.factor_names, best, most, strict=True)):
        if z is None or knows is None:
            rows.append([name, "none", "–", "none", "–"])
            continue
        told = f"{measured.mutual_information[knows, j]:.2f} of {measured.entropy[j]:.2f}"
        rows.append([name, f"z{z}", f"{measured.r2[z, j]:.2f}", f"z{knows}", told])
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
