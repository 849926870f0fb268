"""A report holds the truth about its model, in valid HTML that needs nothing else."""

import base64
import io
import re
from html.parser import HTMLParser

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_bvae import VAE, evaluate
from pyro_bvae.datasets import FactorDataset
from pyro_bvae.likelihoods import BernoulliLikelihood, NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.report import render, summary, words, write_report

LOG_VARIANCE = -4.0


class Grid(FactorDataset):
    """2×2 images whose first pixels are the factors themselves, scaled to [0, 1]."""

    def __init__(self, names=("scale", "x", "colour"), sizes=(4, 5, 1)):
        super().__init__(names, sizes, (1, 2, 2))

    def images(self, indices):
        levels = self.factors(indices).to(torch.get_default_dtype())
        levels = levels / (torch.tensor(self.factor_sizes) - 1).clamp(min=1)
        return nn.functional.pad(levels[:, :4], (0, 4 - levels.shape[1])).view(-1, 1, 2, 2)


def build(shape, latents=3, likelihood=BernoulliLikelihood, prior=None):
    return VAE(
        prior=prior or NormalPrior(latents),
        likelihood=likelihood(mlp_decoder(latents, shape, hidden=())),
        posterior=MeanFieldPosterior(mlp_encoder(shape, hidden=()), latents=latents),
    )


def set_codes(vae, weights, log_variance):
    """Make the posterior means `weights @ pixels`, with these log variances."""
    vae.posterior.head.weight.data.zero_()
    vae.posterior.head.bias.data.zero_()
    vae.posterior.head.weight.data[: len(weights)] = weights
    vae.posterior.head.bias.data[len(weights) :] = torch.as_tensor(log_variance)
    return vae


def perfect():
    """z0 is the second factor, z1 is nothing, z2 is the first."""
    pixels = torch.tensor([[0.0, 3, 0, 0], [0, 0, 0, 0], [1.5, 0, 0, 0]])
    return set_codes(build((1, 2, 2)), pixels, [LOG_VARIANCE, 0.0, LOG_VARIANCE])


def collapsed():
    return set_codes(build((1, 2, 2)), torch.zeros(3, 4), [0.0, 0.0, 0.0])


def history(rows=40, **more):
    falling = 100.0 / np.arange(1, rows + 1)
    steps = {"step": 10 * np.arange(1, rows + 1), "beta": np.full(rows, 4.0)}
    return steps | {"loss": falling, "reconstruction": falling, "kl": 0 * falling} | more


class Page(HTMLParser):
    """Reads a page; raises where tags do not close in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, html):
        super().__init__()
        self.stack, self.images, self.rows, self.words, self.tags = [], [], [], "", set()
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attributes))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" in self.stack:
            return
        self.words += data + " "
        if self.stack and self.stack[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_perfect_codes_have_r2_one_and_all_information():
    measured = summary(perfect(), Grid())
    assert (measured.data, measured.factor_names, measured.factor_sizes) == (
        20,
        ("scale", "x"),
        (4, 5),
    )
    np.testing.assert_allclose(measured.r2, [[0, 1], [0, 0], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(measured.entropy, np.log([4, 5]), rtol=1e-12)
    told = [[0, np.log(5)], [0, 0], [np.log(4), 0]]
    np.testing.assert_allclose(measured.mutual_information, told, atol=1e-12)
    assert measured.best_latent == measured.most_informative_latent == (2, 0)


def test_kl_is_the_closed_form_and_the_elbo_its_sum():
    measured = summary(perfect(), Grid())
    squares = [np.mean((3 * np.arange(5) / 4) ** 2), 0, np.mean((1.5 * np.arange(4) / 3) ** 2)]
    width = np.array([np.exp(LOG_VARIANCE) - LOG_VARIANCE, 1, np.exp(LOG_VARIANCE) - LOG_VARIANCE])
    np.testing.assert_allclose(measured.kl_per_latent, (squares + width - 1) / 2, atol=1e-12)
    assert measured.active_latents == [0, 2]
    assert measured.kl == pytest.approx(measured.kl_per_latent.sum())
    assert measured.elbo == pytest.approx(-measured.reconstruction - measured.kl)


def test_a_latent_with_little_kl_is_never_the_best():
    vae = perfect()
    vae.posterior.head.weight.data[1, 0] = 1e-6
    measured = summary(vae, Grid())
    assert measured.r2[1, 0] == pytest.approx(1)
    assert measured.best_latent == (2, 0)
    assert summary(collapsed(), Grid()).best_latent == (None, None)


def test_a_global_latent_counts_once_per_data_set():
    vae = build((3,), prior=NormalPrior(3, scale=dist.HalfNormal(1.0)), likelihood=NormalLikelihood)
    data = torch.randn(40, 3)
    part = summary(vae, data, size=10)
    indices = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:10]
    alone = evaluate(vae, data[indices])
    beyond = alone["kl"] - alone["kl_per_latent.z"].sum()
    assert abs(beyond) > 1e-6
    assert part.kl - part.kl_per_latent.sum() == pytest.approx(beyond * 10 / 40)


def test_summary_prints_in_a_dozen_lines():
    lines = str(summary(perfect(), Grid())).splitlines()
    assert len(lines) <= 12
    assert "active latents       2 of 3: z0 " in lines[4]
    assert lines[-2].split() == ["scale", "z2", "1.00", "1.39", "of", "1.39"]
    assert "none" in str(summary(collapsed(), Grid()))


def test_page_is_valid_and_holds_everything_it_needs():
    html = render(perfect(), Grid(), history=history(), settings={"steps": 20_000})
    page = Page(html)
    for image in page.images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        height, width = plt.imread(io.BytesIO(base64.b64decode(data))).shape[:2]
        assert int(image["width"]) / int(image["height"]) == pytest.approx(width / height, rel=0.02)
        assert image["alt"]
    assert len(page.images) == 3 + 1 + 3 + 2
    assert not page.tags & {"script", "link", "iframe", "object"}
    without = re.sub(r'src="[^"]*"', "", html)
    assert not re.search(r"https?:|//|url\(|@import", without)
    assert 'name="viewport"' in html
    assert "@media print" in html
    assert ["steps", "20,000"] in page.rows


def test_page_holds_the_numbers_of_the_summary():
    vae, data = perfect(), Grid()
    measured = summary(vae, data)
    page = Page(render(vae, data, measured=measured))
    for value in (measured.elbo, measured.reconstruction, measured.kl):
        assert words.number(value) in page.words
    assert ["scale", "z2", "1.00", "z2", "1.39 of 1.39"] in page.rows
    assert ["x", "z0", "1.00", "z0", "1.61 of 1.61"] in page.rows
    for sentence in ("2 of 3 latents are active", "z0 follows x (R² 1.00)", "scale: z2 follows it"):
        assert sentence in page.words
    assert "No single latent" not in page.words


def test_the_same_arguments_give_the_same_page_and_leave_no_trace():
    vae = perfect()
    vae.train()
    vae.posterior.encoder.eval()
    mine, style = plt.figure(), dict(mpl.rcParams)
    state = torch.get_rng_state()
    first = render(vae, Grid(), history=history(), seed=3)
    assert render(vae, Grid(), history=history(), seed=3) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert plt.get_fignums() == [mine.number]
    assert plt.gcf() is mine
    assert dict(mpl.rcParams) == style
    assert vae.training
    assert vae.likelihood.training
    assert not vae.posterior.encoder.training
    plt.close(mine)


def test_modules_are_evaluated_in_evaluation_mode():
    vae = perfect()
    vae.posterior.encoder = nn.Sequential(vae.posterior.encoder, nn.Dropout(0.9))
    np.testing.assert_allclose(summary(vae, Grid()).r2[0], [0, 1], atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4), (5,), (4, 4)])
def test_grey_colour_and_other_data_are_reported(shape):
    page = Page(render(build(shape), torch.rand(30, *shape)))
    assert len(page.images) == (4 if len(shape) == 3 else 1)
    assert ("is no image" in page.words) == (len(shape) != 3)
    assert "no known factors" in page.words
    assert "No history" in page.words


def test_pixels_beyond_one_are_shown_on_their_own_scale():
    vae = build((1, 4, 4), likelihood=NormalLikelihood)
    data = torch.zeros(8, 1, 4, 4)
    data[:, 0, 0, 0], data[:, 0, 0, 1] = -2.0, 3.0
    assert "Pixels range from -2 (black) to 3 (white)" in Page(render(vae, data)).words


def test_settings_and_title_are_escaped():
    html = render(
        build((5,)), torch.rand(9, 5), settings={"<script>": "<b>&"}, title="</title><script>"
    )
    page = Page(html)
    assert "script" not in page.tags
    assert ["<script>", "<b>&"] in page.rows
    assert "</title><script>" in page.words


def test_a_collapsed_model_is_said_to_be_one():
    page = Page(render(collapsed(), Grid()))
    assert "None of the 3 latents is active" in page.words
    assert "posterior collapse" in page.words
    assert "scale: not captured, as no latent is active" in page.words
    assert ["x", "none", "–", "none", "–"] in page.rows


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


def test_many_latents_are_drawn_in_part_and_say_so():
    page = Page(render(build((1, 4, 4), latents=40), torch.rand(9, 1, 4, 4)))
    assert "Only the 32 latents with the most KL are drawn" in page.words


def test_report_is_written_where_asked(tmp_path):
    path = write_report(tmp_path / "new" / "report.html", build((5,)), torch.rand(9, 5))
    assert path == tmp_path / "new" / "report.html"
    assert "β-VAE" in Page(path.read_text(encoding="utf-8")).words


def test_bad_input_is_named():
    vae = build((5,))
    with pytest.raises(TypeError, match=r"data: expected batches of one tensor.*data\.images"):
        summary(vae, (torch.rand(9, 5), torch.zeros(9)))
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        summary(vae, torch.rand(9, 5), size=0)
    with pytest.raises(ValueError, match="history: expected 'step'"):
        render(vae, torch.rand(9, 5), history={"loss": [1.0], "kl": [1.0]})
