"""What every model does: its sites, its ELBO written by hand, β per site, and every trainer."""

import copy
import pickle
from functools import partial

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import Adam
from pyro.poutine.runtime import _PYRO_STACK

from pyro_bvae import evaluate, fit, tempered
from pyro_bvae.diagnostics import check_pair
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.models import InformationBottleneck
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.objectives import ELBO
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training import CompiledSVI
from tests.models.cases import (
    BATCH,
    CASES,
    CLASS,
    SHAPE,
    X,
    bottleneck,
    conditional,
    hierarchical,
    joint,
    semi_supervised,
)

all_cases = pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)


def traces(case, **kwargs):
    guide = poutine.trace(case.model.guide).get_trace(*case.data, **kwargs)
    replayed = poutine.replay(case.model.model, trace=guide)
    return guide, poutine.trace(replayed).get_trace(*case.data, **kwargs)


def latents(trace):
    return {name: trace.nodes[name]["value"] for name in trace.stochastic_nodes if name in SITES}


def estimate_and_draws(pair, data):
    """Return the estimate of one run, and what its guide drew."""
    kept = {}

    def guide(*args):
        with poutine.trace() as recorded:
            pair.guide(*args)
        kept.update(latents(recorded.trace))

    return ELBO().estimate(pair.model, guide, *data), kept


SITES = {"y", "z", "z1", "z2"}


@all_cases
def test_sites_and_plates(make):
    case = make()
    guide, model = traces(case)
    sites = {n: s for n, s in model.nodes.items() if n in case.plates}
    assert list(sites) == list(case.plates)
    assert set(latents(guide)) == {n for n, s in sites.items() if not s["is_observed"]}
    for name, site in sites.items():
        assert [frame.name for frame in site["cond_indep_stack"]] == case.plates[name]
        assert site["fn"].batch_shape[-1] == BATCH


@all_cases
@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_the_elbo_is_the_one_written_by_hand(make, beta):
    """Value and gradients, at the draws of one run; β weighs each KL, site by site."""
    case = make()
    betas = {name: beta + i for i, name in enumerate(latents(traces(case)[0]))}
    estimate, values = estimate_and_draws(tempered(case.model, betas), case.data)
    parameters = list(case.model.parameters())
    gradients = torch.autograd.grad(estimate.loss, parameters, retain_graph=True)
    expected = case.terms(values)
    total = expected["reconstruction"].sum()
    torch.testing.assert_close(estimate.terms["reconstruction"], total, rtol=1e-10, atol=1e-10)
    for name, value in betas.items():
        kl = expected[f"kl_{name}"].sum()
        torch.testing.assert_close(estimate.terms[f"kl_{name}"], kl, rtol=1e-10, atol=1e-10)
        assert estimate.weights[f"kl_{name}"] == value
        total = total + value * kl
    for mine, by_hand in zip(gradients, torch.autograd.grad(total, parameters), strict=True):
        torch.testing.assert_close(mine, by_hand, rtol=1e-8, atol=1e-10)


@all_cases
def test_check_pair_finds_nothing(make):
    case = make()
    check = check_pair(*case.model_and_guide(2.0), *case.data)
    worries = {f.name for f in check.findings if f.verdict != "ok"}
    expected = {"estimators"} if make.__name__ == "hierarchical" else set()
    assert worries <= expected, str(check)


@all_cases
def test_recorded_steps_are_eager_steps(make):
    case = make()
    other = copy.deepcopy(case)
    losses = []
    for one, mode in ((case, "eager"), (other, "recorded")):
        svi = CompiledSVI(*tempered(one.model, 2.0), Adam({"lr": 0.01}), ELBO(), mode=mode)
        losses.append([])
        for step in range(6):
            pyro.set_rng_seed(step)
            losses[-1].append(svi.step(*one.data))
        assert svi.fallback is None
    assert losses[0] == losses[1]
    pairs = zip(case.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)


@all_cases
@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO, ELBO])
@pytest.mark.filterwarnings("ignore:Failed to verify mean field restriction")
def test_svi_trains_every_parameter(make, loss):
    case = make()
    before = copy.deepcopy(case.model.state_dict())
    svi = SVI(*tempered(case.model, 2.0), Adam({"lr": 0.01}), loss())
    for _ in range(3):
        assert np.isfinite(svi.step(*case.data))
    for name, parameter in case.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    assert len(pyro.get_param_store()) == 0


@all_cases
def test_order_of_the_data_does_not_matter(make):
    """Another order of data and draws has the same joint density."""
    case = make()
    drawn, model = traces(case)
    order = torch.tensor([3, 1, 4, 0, 2])
    for name, value in latents(drawn).items():
        drawn.nodes[name]["value"] = value.index_select(value.dim() - 2, order)
    case.data = tuple(part[order] for part in case.data)
    replayed = poutine.trace(poutine.replay(case.model.model, trace=drawn))
    again = replayed.get_trace(*case.data)
    assert again.log_prob_sum().item() == pytest.approx(model.log_prob_sum().item(), rel=1e-12)


@all_cases
def test_particles_in_a_batch_are_particles_in_a_loop(make):
    """2000 draws each: the means differ by less than 5 standard errors of the loop's."""
    case = make()
    with torch.no_grad():
        batched = ELBO(num_particles=2000, vectorize_particles=True)
        together = batched.loss(case.model.model, case.model.guide, *case.data)
        single = [ELBO().loss(case.model.model, case.model.guide, *case.data) for _ in range(200)]
    error = np.std(single) * (1 / 200 + 1 / 2000) ** 0.5
    assert abs(together - np.mean(single)) < 5 * error + 1e-9


@all_cases
def test_size_stands_for_all_the_data(make):
    case = make()
    values = []
    for size in (None, 3 * BATCH):
        pyro.set_rng_seed(0)
        values.append(ELBO().estimate(*case.model_and_guide(1.0), *case.data, size=size))
    assert values[1].data == 3 * BATCH
    assert values[1].loss.item() == pytest.approx(3 * values[0].loss.item(), rel=1e-10)


@all_cases
def test_fit_and_evaluate(make):
    case = make()
    history = fit(case.model, case.data, steps=4, batch_size=3, beta=2.0, progress=False).history
    assert np.isfinite(history["loss"]).all()
    measured = evaluate(case.model, case.data)
    assert measured["elbo"] == pytest.approx(-measured["reconstruction"] - measured["kl"])


@all_cases
def test_copies_and_pickles(make):
    case = make()
    for other in (copy.deepcopy(case.model), pickle.loads(pickle.dumps(case.model))):
        values = []
        for model in (case.model, other):
            pyro.set_rng_seed(0)
            values.append(ELBO().loss(model.model, model.guide, *case.data))
        assert values[0] == values[1]


@all_cases
def test_moves_to_float32(make):
    case = make()
    model = case.model.to(torch.float32)
    data = tuple(p.to(torch.float32) if p.is_floating_point() else p for p in case.data)
    svi = SVI(model.model, model.guide, Adam({"lr": 0.01}), ELBO())
    assert np.isfinite(svi.step(*data))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@all_cases
def test_refuses_an_x_that_is_no_data(make):
    case = make()
    rest = case.data[1:]
    for x, error, message in (
        (torch.zeros(0, *SHAPE), ValueError, "at least one datum"),
        ([1.0], TypeError, "x: expected a tensor, got list"),
    ):
        for function in (case.model.guide, case.model.model):
            with pytest.raises(error, match=message):
                function(x, *rest)
    assert _PYRO_STACK == []


LATER = torch.arange(160) == 150
PIXEL = torch.zeros(160, *SHAPE)


def about_bits():
    return InformationBottleneck(
        NormalPrior(2),
        BernoulliLikelihood(mlp_decoder(2, (1,))),
        MeanFieldPosterior(mlp_encoder(SHAPE), latents=2),
    )


@pytest.mark.parametrize(
    ("model", "rest", "message"),
    [
        (lambda: semi_supervised().model, (LATER * -2,), "labels: expected .* got -2 to 0"),
        (lambda: conditional().model, (LATER * -1,), "labels: expected .* got -1 to 0"),
        (about_bits, (LATER[:, None] * 7.0,), r"y, the likelihood's x: x: .* in \[0, 1\]"),
    ],
)
def test_fit_checks_every_part_of_the_data(model, rest, message):
    """Also where it comes after a step was recorded, which reads no values."""
    with pytest.raises(ValueError, match=message):
        fit(model(), (PIXEL, *rest), steps=30, batch_size=16, compile="recorded", progress=False)


def test_fit_names_the_part_that_is_missing():
    for case, message in ((bottleneck, "y: expected data"), (conditional, "context: expected at")):
        with pytest.raises(TypeError, match=message):
            fit(case().model, X, steps=2, batch_size=5, progress=False)


REFUSED = [
    (conditional, lambda m: m.encode(X), TypeError, "context: expected at least one tensor"),
    (conditional, lambda m: m.encode(X, CLASS[:3]), ValueError, "context: expected 5 rows"),
    (conditional, lambda m: m.decode(torch.zeros(5, 2)), TypeError, "context: expected at least"),
    (semi_supervised, lambda m: m.encode(X, CLASS[:4]), ValueError, "one for each x, 5, got 4"),
    (semi_supervised, lambda m: m.decode(torch.zeros(5, 2), CLASS[:4]), ValueError, "for each z"),
    (semi_supervised, lambda m: m.sample(3), TypeError, "labels: expected integers .* got int"),
    (joint, lambda m: m.decode(torch.zeros(5, 2), CLASS), ValueError, "y: expected one-hot"),
    (joint, lambda m: m.encode(X.numpy()), TypeError, "x: expected a tensor, got ndarray"),
    (bottleneck, lambda m: m.encode([1.0]), TypeError, "x: expected a tensor, got list"),
    (hierarchical, lambda m: m.encode(X.byte()), TypeError, "x: expected floating-point"),
    (bottleneck, lambda m: m.model(X, CLASS + 1), ValueError, "y, the likelihood's x: x: expected"),
]


@pytest.mark.parametrize(("case", "call", "error", "message"), REFUSED)
def test_refuses_what_does_not_fit(case, call, error, message):
    model = case().model
    with pytest.raises(error, match=message):
        call(model)


def test_the_sum_over_classes_has_no_noise_of_classes():
    """With alpha = 0 and no labels it is the average over y of the ELBO given y."""
    case = partial(semi_supervised, 0.0)()
    case.data = (case.data[0], torch.full((BATCH,), -1))
    unlabelled, values = estimate_and_draws(case.model_and_guide(1.0), case.data)
    given = []
    for c in range(3):
        case.data = (case.data[0], torch.full((BATCH,), c))
        terms = case.terms(values)
        given.append(terms["reconstruction"] + terms["kl_z"])
    q = case.model.predict(case.data[0])
    kl = (q * (q * 3).log()).sum()
    expected = (q * torch.stack(given, 1)).sum() + kl
    torch.testing.assert_close(unlabelled.loss, expected, rtol=1e-10, atol=1e-10)
