"""The table of metrics: perfect, rotated and missing codes, however a model is handed over."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_bvae import metrics, tempered
from pyro_bvae.datasets import FactorTable
from pyro_bvae.diagnostics import ImageCodes, disentanglement_scores
from pyro_bvae.diagnostics.measures import MEASURES, VARIANTS
from tests.report.examples import Grid, perfect

CHEAP = ("mig", "modularity", "irs")
DATA = Grid(("size", "x", "y", "colour"), (6, 5, 4, 1))


def pixels(images):
    """The perfect code of a Grid, and a latent that is always 0."""
    return images.flatten(1)


def scores(pair, data=DATA, **more):
    return disentanglement_scores(pair, data, **{"metrics": CHEAP, **more})


@pytest.fixture(scope="module")
def whole_table():
    torch.set_default_dtype(torch.float64)
    return scores(pixels, metrics=None)


def test_a_perfect_code_scores_its_ceiling(whole_table):
    assert (whole_table.points, whole_table.test_points) == (80, 40)
    assert whole_table.factor_names == ("size", "x", "y")
    assert whole_table.left_out == {}
    assert set(whole_table.results) == set(MEASURES) - set(VARIANTS)
    # DCI's 1e-11 inside the logarithm; 80 points do not part the classes for a linear classifier,
    # nor balance them for modularity, IRS and the covariance, as the whole grid would.
    exact = {"mig", "dci", "beta_vae_score", "factor_vae_score"}
    for name in exact:
        result = whole_table.results[name]
        assert result.score == pytest.approx(result.ceiling, abs=1e-6), name
    table = whole_table.to_dict()
    assert table["DCI: completeness"]["score"] == pytest.approx(1)
    assert table["DCI: informativeness"]["score"] == 1
    assert table["total correlation"]["ceiling"] == 0


def test_table_is_the_metrics_own_numbers(whole_table):
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    train, test = order[:80], order[80:]
    codes, factors = (
        lambda i: pixels(DATA.images(i)).numpy(),
        lambda i: DATA.factors(i)[:, :3].numpy(),
    )
    for name in ("sap", "explicitness"):
        metric = getattr(metrics, name)
        by_hand = metric(codes(train), factors(train), codes(test), factors(test))
        assert whole_table.results[name].score == by_hand.score
    by_hand = metrics.modularity(codes(train), factors(train))
    row = next(row for row in whole_table.rows if row.metric == "modularity")
    assert (row.score, row.low, row.high, row.ceiling) == (
        by_hand.score,
        *by_hand.interval,
        by_hand.ceiling,
    )


def test_rotation_costs_what_reads_one_latent_and_nothing_else():
    turn = torch.eye(4)
    turn[:2, :2] = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5
    names = ("mig", "modularity", "dci", "explicitness", "total_correlation_score")
    before, after = (
        scores(code, metrics=names).results for code in (pixels, lambda x: pixels(x) @ turn)
    )
    for name in ("mig", "modularity", "dci"):
        assert after[name].score < before[name].score - 0.05
    # The regression of explicitness is penalised, so it feels the turned axes a little.
    for name, tolerance in (("explicitness", 5e-3), ("total_correlation_score", 2e-3)):
        assert after[name].score == pytest.approx(before[name].score, abs=tolerance)


def test_the_ways_to_hand_over_a_model_agree():
    vae, data = perfect(), Grid()
    plain = scores(vae, data).to_dict()
    handed = [(vae.model, vae.guide), tempered(vae, 4.0), vae.encode]
    for pair in handed:
        assert scores(pair, data).to_dict() == plain

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.sum((1, 2, 3)), 1.0))

    assert scores((guide, guide), data, metrics=["irs"]).results["irs"].robustness.shape == (1, 2)


def test_each_image_is_encoded_once_in_large_batches():
    seen, batches = [], []

    def encode(images):
        seen.extend(map(tuple, images.flatten(1).tolist()))
        batches.append(len(images))
        return pixels(images)

    scores(encode, metrics=["mig", "sap", "beta_vae_score", "factor_vae_score"])
    assert len(seen) == len(set(seen)) == 120
    assert len(batches) <= 3


def test_encoding_is_in_evaluation_mode_without_gradients_and_draws_nothing():
    vae = perfect()
    vae.posterior.encoder = nn.Sequential(vae.posterior.encoder, nn.Dropout(0.9))
    vae.posterior.encoder[0].eval()
    plain = scores(perfect(), Grid()).to_dict()
    state = torch.get_rng_state()
    for pair in (vae, (vae.model, vae.guide), tempered(vae, 4.0), vae.encode):
        assert scores(pair, Grid()).to_dict() == plain
    assert torch.equal(torch.get_rng_state(), state)
    assert vae.training
    assert not vae.posterior.encoder[0].training
    linear = nn.Linear(4, 2)
    codes = ImageCodes(lambda x: linear(x.flatten(1)), Grid())
    assert isinstance(codes(torch.arange(3)), np.ndarray)


def test_missing_combinations_leave_out_what_holds_factors_and_say_so():
    kept = torch.arange(120) % 7 != 0
    rows = DATA.factors(torch.arange(120))[kept]
    data = FactorTable(DATA.images(torch.arange(120)[kept]), rows, factor_names=DATA.factor_names)
    result = scores(pixels, data, metrics=["mig", "factor_vae_score", "beta_vae_score"])
    assert result.results["mig"].score == pytest.approx(result.results["mig"].ceiling)
    assert set(result.left_out) == {"factor_vae_score", "beta_vae_score"}
    assert "FactorVAE score: left out; data: expected one image for every" in str(result)


def test_one_factor_is_no_obstacle_to_the_metrics_of_one():
    data = DATA.subset(x=[0], y=[1])
    data = FactorTable(
        data.images(torch.arange(6)).repeat(9, 1, 1, 1), torch.arange(54)[:, None] % 6
    )
    result = scores(pixels, data, metrics=["mig", "modularity", "dci"])
    assert set(result.results) == {"mig"}
    assert "at least 2 factors" in result.left_out["dci"]


def test_images_of_a_class_without_training_images_are_left_out():
    factors = torch.arange(60)[:, None] % 3
    factors[-1] = 3
    data = FactorTable(torch.rand(60, 1, 2, 2), factors)
    sizes = {scores(pixels, data, metrics=["sap"], seed=seed).test_points for seed in range(12)}
    assert sizes == {19, 20}


def test_seeds_and_sizes():
    first, again, other = (
        scores(pixels, seed=seed, points=60, test_points=30) for seed in (0, 0, 1)
    )
    assert first.to_dict() == again.to_dict() != other.to_dict()
    assert (first.points, first.test_points) == (60, 30)


def test_table_in_print_and_as_a_frame(whole_table):
    lines = str(whole_table).splitlines()
    assert len(lines) == 1 + len(whole_table.rows) == 13
    row = whole_table.rows[0]
    numbers = [f"{value:.3f}" for value in (row.score, row.low, row.high, row.ceiling)]
    assert lines[1].split() == ["MIG", *numbers[:2], "to", *numbers[2:]]
    assert sum("lower is better" in line for line in lines) == 2
    assert len({len(line.split("  (")[0]) for line in lines[1:]}) == 1
    frame = pd.DataFrame(whole_table.rows).set_index("metric")
    assert frame.loc["DCI: informativeness", "score"] == 1
    assert frame["about"].str.endswith(".").all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((pixels, torch.rand(9, 4)), TypeError, "FactorTable"),
        ((3, DATA), TypeError, "pair: expected a VAE, a pair"),
        ((lambda x: x, DATA), ValueError, r"codes: expected finite numbers \[80, latents\]"),
        ((lambda x: pixels(x) / 0, DATA), ValueError, "with NaN or infinity"),
        ((pixels, Grid(("a", "b"), (1, 1))), ValueError, "test on"),
        ((pixels, DATA.subset(size=[0], x=[0], y=[0, 0][:1])), ValueError, "data: expected images"),
    ],
)
def test_bad_models_and_data_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        scores(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["MIG"]}, r"metrics: expected some of mig, .* got \['MIG'\]"),
        ({"metrics": []}, "metrics: expected some of"),
        ({"points": 1}, "points: expected a whole number >= 2"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        scores(pixels, **options)


def test_guides_without_codes_are_named():
    def nothing(x):
        pyro.sample("w", dist.Normal(0.0, 1.0))

    def no_mean(x):
        spline = dist.transforms.Spline(1)
        pyro.sample(
            "z", dist.TransformedDistribution(dist.Normal(torch.zeros(len(x), 1), 1), spline)
        )

    with pytest.raises(
        ValueError, match=r"guide: expected a latent site 'z', got sites \['_RETURN', 'w'\]"
    ):
        scores((nothing, nothing))
    with pytest.raises(ValueError, match="guide: expected a distribution with a mean"):
        scores((no_mean, no_mean))
