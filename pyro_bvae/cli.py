"""The command line: parses, calls, prints."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pyro_bvae import recipe as recipes
from pyro_bvae.datasets import FactorDataset
from pyro_bvae.diagnostics import disentanglement_scores
from pyro_bvae.recipe import Recipe
from pyro_bvae.report import summary, write_report
from pyro_bvae.training import Fit, Group, OtherProcessError, Run, launched_group
from pyro_bvae.training.notices import said

HELP = {
    "data": f"{', '.join(recipes.DATASETS)}, or a path: dSprites .npz, .npy array, image folder",
    "size": "pixels across (default: the data's own: sprites 32, digits 8, faces 64)",
    "latents": "number of latents",
    "beta": "β, the price of a nat of KL; 1 is the plain VAE",
    "prior_scale": "σ of the prior: a number, learned, or per_latent",
    "likelihood": "bernoulli for pixels in [0, 1], normal for real values",
    "likelihood_scale": "σ of the normal likelihood: a number, learned, or per_pixel",
    "net": "networks: burgess or locatello (images), mlp (anything)",
    "steps": "optimiser steps",
    "batch_size": "data per step",
    "learning_rate": "Adam's learning rate",
    "seed": "of weights, data order and draws",
}


def _scale(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


TYPES: dict[str, Callable[[str], Any]] = {
    "prior_scale": _scale,
    "likelihood_scale": _scale,
    "size": int,
}
CHOICES = {"net": recipes.NETS, "likelihood": recipes.LIKELIHOODS}


def parser() -> argparse.ArgumentParser:
    """Build the parser of `pyro-bvae`."""
    top = argparse.ArgumentParser(
        prog="pyro-bvae",
        description="Train a β-VAE in Pyro, measure it, and write a report about it.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train a β-VAE and write its run directory, with a report",
        description="Train a β-VAE by SVI. Without options it trains on rendered dSprites. Writes "
        "weights, settings, history and report.html into the run directory. Several processes "
        "train together under torchrun --nproc-per-node 2 -m pyro_bvae train ...",
    )
    for field in fields(Recipe):
        train.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=TYPES.get(field.name, type(field.default)),
            default=argparse.SUPPRESS,
            choices=CHOICES.get(field.name),
            metavar=None if field.name in CHOICES else field.name.upper(),
            help=HELP[field.name]
            + ("" if field.default is None else f" (default: {field.default})"),
        )
    train.add_argument("run", metavar="RUN", type=Path, help="directory to write")
    train.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run that is there, as it was begun; only --steps may be another",
    )
    for name, text in (
        (
            "evaluate",
            "print the ELBO, the KL, and every metric of disentanglement where factors are known",
        ),
        ("report", "write report.html into the run directory"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("run", metavar="RUN", type=Path, help="what `pyro-bvae train` wrote")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors in the input are printed in one line, exit status 2."""
    given = parser().parse_args(arguments)
    try:
        return _run(given)
    except OtherProcessError:
        return 2
    except (ValueError, TypeError, OSError, EOFError, FloatingPointError) as error:
        print(f"pyro-bvae {given.command}: {said(error)}", file=sys.stderr)
        return 2


def _train(given: argparse.Namespace, group: Group) -> Fit:
    options = {f.name: getattr(given, f.name) for f in fields(Recipe) if hasattr(given, f.name)}
    recipe = (
        group.from_first(lambda: recipes.resumed(given.run, options))
        if given.resume
        else Recipe(**options)
    )
    return recipe.train(given.run, overwrite=given.overwrite, resume=given.resume)


def _run(given: argparse.Namespace) -> int:
    if given.command == "train":
        with launched_group() as group:
            result = _train(given, group)
            is_first = group.is_first
        if result.interrupted and is_first:
            print(
                f"pyro-bvae train: interrupted after {result.steps} steps; go on with "
                f"pyro-bvae train {given.run} --resume",
                file=sys.stderr,
            )
        if result.interrupted or not is_first:
            return 130 if result.interrupted else 0
    recipe, vae, data = recipes.load(given.run)
    measured = summary(vae, data, seed=recipe.seed)
    print(measured)
    if given.command == "evaluate" and measured.factor_names and isinstance(data, FactorDataset):
        print(f"\n{disentanglement_scores(vae, data, seed=recipe.seed)}")
    if given.command != "evaluate":
        path = write_report(
            given.run / "report.html",
            vae,
            data,
            history=Run(given.run).history(),
            settings=asdict(recipe),
            measured=measured,
            seed=recipe.seed,
        )
        print(f"report: {path}")
    return 0
