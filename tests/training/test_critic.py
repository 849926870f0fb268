"""Training with a critic: two networks, two optimisers, in that order, in every mode."""

from functools import partial

import pytest
import torch

from pyro_bvae import fit, tempered
from pyro_bvae.objectives import ELBO, AdversarialELBO, FactorELBO
from pyro_bvae.objectives.ratio import ratio_loss
from pyro_bvae.training import CompiledSVI, CriticSVI, Run
from pyro_bvae.training.step import PerDatum
from tests.objectives.examples import BATCH, critic, data, small_vae

X = data(8 * BATCH)
FACTORIES = {
    "factor": lambda: FactorELBO(critic(), gamma=5.0),
    "adversarial": lambda: AdversarialELBO(critic(), gamma=5.0),
}
SGD = partial(torch.optim.SGD, lr=0.05)
ADAM = partial(torch.optim.Adam, lr=1e-2)


def weights(vae, objective):
    return [p.detach().clone() for p in (*vae.parameters(), *objective.critic.parameters())]


@pytest.mark.parametrize("name", FACTORIES)
def test_a_step_is_the_pairs_and_then_the_critics_on_its_draws(name):
    """By hand: descend the loss with the critic as it was, then the critic on the same draws."""
    vae, objective = small_vae(), FACTORIES[name]()
    before = weights(vae, objective)
    torch.manual_seed(0)
    estimate = objective.estimate(*tempered(vae, 2.0), X)
    loss = estimate.loss / len(X)
    judged = ratio_loss(objective.critic, *estimate.draws)
    expected = []
    for value, module in ((loss, vae), (judged, objective.critic)):
        gradients = torch.autograd.grad(value, list(module.parameters()))
        expected += [p - 0.05 * g for p, g in zip(module.parameters(), gradients, strict=True)]
    svi = CriticSVI(*tempered(vae, 2.0), SGD, objective, critic_optim=SGD, mode="eager")
    torch.manual_seed(0)
    taken, terms = svi.step_terms(X)
    assert taken.item() == pytest.approx(loss.item(), rel=1e-12)
    assert terms["critic_loss"].item() == pytest.approx(judged.item(), rel=1e-12)
    found = weights(vae, objective)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(found, expected, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(found, before, strict=True))


@pytest.mark.parametrize("name", FACTORIES)
def test_recorded_steps_are_the_eager_ones(name):
    """To the last bit: both networks, both losses, with no fallback."""
    results = []
    for mode in ("eager", "recorded"):
        torch.manual_seed(1)
        vae, objective = small_vae(), FACTORIES[name]()
        svi = CriticSVI(*tempered(vae, 2.0), ADAM, objective, critic_optim=ADAM, mode=mode)
        losses = []
        for x in X.split(BATCH):
            loss, terms = svi.step_terms(x, size=len(X))
            losses += [loss, terms["critic_loss"]]
        assert svi.fallback is svi.critic.fallback is None
        results.append([torch.stack(losses), *weights(vae, objective)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_compiled_steps_are_the_eager_ones():
    """To rounding, with Pyro's random numbers."""
    results = []
    for mode in ("eager", "compiled"):
        torch.manual_seed(1)
        vae, objective = small_vae(), FACTORIES["factor"]()
        svi = CriticSVI(*tempered(vae, 2.0), SGD, objective, critic_optim=SGD, mode=mode)
        taken = [svi.step_terms(X)[1] for _ in range(8)]
        assert svi.fallback is svi.critic.fallback is None
        losses = [terms[name] for terms in taken for name in ("loss", "critic_loss")]
        results.append([torch.stack(losses), *weights(vae, objective)])
    assert all(torch.allclose(a, b, rtol=1e-7) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", FACTORIES)
def test_fit_trains_the_critic(name):
    vae, objective = small_vae(), FACTORIES[name]()
    before = weights(vae, objective)
    result = fit(
        vae, X, objective=objective, steps=20, batch_size=12, validation=0.25, progress=False
    )
    assert not any(torch.equal(a, b) for a, b in zip(weights(vae, objective), before, strict=True))
    assert result.history["critic_loss"].shape == (20,)
    assert (result.history["critic_loss"] < 3.0).all()
    assert result.history["validation_elbo"].shape == (20,)


def test_fit_takes_the_critics_own_optimiser():
    """With a critic that stands still, it stays as it was."""
    objective = FACTORIES["factor"]()
    before = [p.detach().clone() for p in objective.critic.parameters()]
    still = partial(torch.optim.SGD, lr=0.0)
    fit(
        small_vae(),
        X,
        objective=objective,
        critic_optim=still,
        steps=3,
        progress=False,
        batch_size=8,
    )
    after = objective.critic.parameters()
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_a_run_goes_on_with_its_critic(tmp_path):
    """Bit for bit: half the steps, a new process's networks, and the other half."""
    results = []
    for halves in ((24,), (12, 24)):
        for steps in halves:
            torch.manual_seed(1)
            vae, objective = small_vae(), FACTORIES["adversarial"]()
            fit(
                vae,
                X,
                objective=objective,
                steps=steps,
                every=4,
                batch_size=12,
                run=tmp_path / str(len(halves)),
                resume=len(halves) > 1,
                compile="eager",
                progress=False,
            )
        results.append(weights(vae, objective))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert "critic_loss" in Run(tmp_path / "2").history()


def test_an_objective_without_a_critic_is_refused():
    with pytest.raises(ValueError, match="objective: expected one with a critic, got ELBO"):
        CriticSVI(print, print, ADAM, ELBO())


def test_compiled_svi_alone_leaves_the_critic_as_it_is():
    vae, objective = small_vae(), FACTORIES["factor"]()
    before = [p.detach().clone() for p in objective.critic.parameters()]
    svi = CompiledSVI(*tempered(vae, 1.0), SGD, PerDatum(objective), mode="eager")
    svi.step(X)
    after = objective.critic.parameters()
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
