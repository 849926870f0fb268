"""A report is valid HTML that holds everything it needs, and the truth about its model."""

import base64
import io
import re
from html.parser import HTMLParser

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

from pyro_bvae.diagnostics import disentanglement_scores
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.report import render, summary, words, write_report
from pyro_bvae.report.scores import REPORTED
from tests.report.examples import Grid, build, collapsed, history, perfect


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


def test_page_is_valid_and_holds_everything_it_needs():
    html = render(perfect(), Grid(), history=history(), settings={"steps": 20_000})
    page = Page(html)
    for image in page.images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        height, width = plt.imread(io.BytesIO(base64.b64decode(data))).shape[:2]
        assert int(image["width"]) / int(image["height"]) == pytest.approx(width / height, rel=0.02)
        assert image["alt"]
    assert len(page.images) == 3 + 1 + 2 + 3 + 3 + 1
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
    first = render(vae, Grid(), history=history(), seed=3)
    torch.rand(1)
    state = torch.get_rng_state()
    assert render(vae, Grid(), history=history(), seed=3) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert plt.get_fignums() == [mine.number]
    assert plt.gcf() is mine
    assert dict(mpl.rcParams) == style
    assert vae.training
    assert vae.likelihood.training
    assert not vae.posterior.encoder.training
    plt.close(mine)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4), (5,), (4, 4)])
def test_grey_colour_and_other_data_are_reported(shape):
    page = Page(render(build(shape), torch.rand(30, *shape)))
    assert len(page.images) == 2 + (5 if len(shape) == 3 else 1)
    assert ("is no image" in page.words) == (len(shape) != 3)
    assert "no known factors" in page.words
    assert "No history" in page.words


def test_pixels_beyond_one_are_shown_on_their_own_scale():
    vae = build((1, 4, 4), likelihood=NormalLikelihood)
    data = torch.zeros(8, 1, 4, 4)
    data[:, 0, 0, 0], data[:, 0, 0, 1] = -2.0, 3.0
    assert "Pixels range from −2 (black) to 3 (white)" in Page(render(vae, data)).words


def test_settings_and_title_are_escaped():
    html = render(
        build((5,)), torch.rand(9, 5), settings={"<script>": "<b>&"}, title="</title><script>"
    )
    page = Page(html)
    assert "script" not in page.tags
    assert ["<script>", "<b>&"] in page.rows
    assert "</title><script>" in page.words


def test_page_holds_the_metrics_of_known_factors_and_what_they_see():
    vae, data = perfect(), Grid(sizes=(6, 8, 1))
    scores = disentanglement_scores(vae, data, metrics=REPORTED)
    page = Page(render(vae, data))
    assert "Metrics of disentanglement" in page.words
    for row in scores.rows:
        shown = next(cells for cells in page.rows if cells[0] == row.metric)
        assert shown[1] == row.about
        assert (shown[2], shown[4]) == (f"{row.score:.3f}", f"{row.ceiling:.3f}")
    assert f"{scores.points} random images" in page.words
    few = Page(render(vae, Grid(sizes=(2, 1, 1))))
    assert "The metrics could not be computed: data: expected images to test on" in few.words
    assert "Metrics of disentanglement" not in Page(render(build((5,)), torch.rand(9, 5))).words


def test_a_collapsed_model_is_said_to_be_one():
    page = Page(render(collapsed(), Grid()))
    assert "None of the 3 latents is active" in page.words
    assert "posterior collapse" in page.words
    assert "scale: not captured, as no latent is active" in page.words
    assert ["x", "none", "–", "none", "–"] in page.rows


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
