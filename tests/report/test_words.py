"""The words of a report say what its numbers are."""

import numpy as np
import pytest
import torch

from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.report import summary, words
from tests.report.examples import Grid, build, history, perfect, set_codes


def test_a_factor_followed_along_no_line_and_one_not_at_all_are_told_apart():
    class Folded(Grid):
        """Shows how far the first factor is from its middle."""

        def images(self, indices):
            return (2 * super().images(indices) - 1).abs()

    vae = set_codes(build((1, 2, 2), likelihood=NormalLikelihood), torch.eye(4)[:3], [-4, 0, 0])
    data = Folded(("orientation", "shape"), (16, 4))
    vae.posterior.head.weight.data[1:] = 0
    measured = summary(vae, data)
    # |factor − middle| of 16 classes takes 8 values, each of two classes: ln 16 − ln 2 nats.
    assert measured.mutual_information[0, 0] == pytest.approx(np.log(8))
    assert measured.chance_information[0, 0] < np.log(8) / 2
    lines = words.factors(measured)
    assert (
        lines[0] == "orientation: z0 tells 2.08 of its 2.77 nats, but not along a line (best "
        "R² 0.00)."
    )
    assert lines[1].startswith("shape: not captured by any single latent")
    assert words.missed(measured) == ["shape"]
    assert "a square looks the same every 90°" in words.caveats(measured)[-1]


def test_a_latent_of_two_factors_is_said_to_mix_them():
    vae = perfect()
    vae.posterior.head.weight.data[0, :2] = torch.tensor([2.0, 2.0])
    assert words.followers(summary(vae, Grid()))[0].startswith("z0 mixes ")


def test_training_words_tell_falling_from_settled():
    falling, settled = np.linspace(10, 1, 40), np.r_[np.linspace(10, 1, 10), np.tile([1, 1.1], 15)]
    assert "was still falling" in words.training(history(loss=falling))[-1]
    assert "no longer fell" in words.training(history(loss=settled))[-1]
    ramp = words.training(history(beta=np.linspace(0, 4, 40)))
    assert "β moved between 0 and 4" in ramp[-1]
    elbo = history(elbo=np.full(40, -3.0), validation_elbo=np.full(40, -3.5))
    assert "−3.00 on training data and −3.50 on validation data" in words.training(elbo)[-1]
