"""`fit`: seeded, per datum, recorded, validated, stopped; and its errors."""

import json
from functools import partial

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from torch import Tensor, nn

from pyro_bvae import VAE, evaluate, fit, tempered
from pyro_bvae.datasets import digits
from pyro_bvae.likelihoods import BernoulliLikelihood, NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training import EarlyStopping, NonFiniteLossError, Record, Run, schedules
from pyro_bvae.training.source import split

X = digits().images[:200].double()
quiet = partial(fit, progress=False)


def small_vae(*, seed: int = 0, prior: object = 1.0, latents: int = 2) -> VAE:
    torch.manual_seed(seed)
    return VAE(
        prior=NormalPrior(latents, scale=prior),
        likelihood=BernoulliLikelihood(mlp_decoder(latents, (1, 8, 8), hidden=(16,))),
        posterior=MeanFieldPosterior(mlp_encoder((1, 8, 8), hidden=(16,)), latents=latents),
    )


def weights(vae: nn.Module) -> list[Tensor]:
    return [value.clone() for value in vae.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_same_seed_gives_the_same_weights_bit_for_bit():
    runs = []
    for disturbance in (1, 2):
        vae = small_vae()
        torch.randn(disturbance)
        result = quiet(vae, X, beta=2.0, steps=20, seed=3, validation=0.2)
        runs.append((weights(vae), result.history))
    assert same(runs[0][0], runs[1][0])
    assert all(np.array_equal(runs[0][1][name], runs[1][1][name]) for name in runs[0][1])
    other = small_vae()
    quiet(other, X, beta=2.0, steps=20, seed=4)
    assert not same(runs[0][0], weights(other))


def test_the_random_state_outside_is_left_alone_and_callbacks_do_not_disturb_training():
    vae, watched = small_vae(), small_vae()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    quiet(vae, X, steps=6, every=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    quiet(watched, X, steps=6, every=2, callbacks=[lambda _: torch.randn(3) is None])
    assert same(weights(vae), weights(watched))


@pytest.mark.parametrize("data", [X.double(), X.half(), X.numpy(), (X * 255).byte()])
def test_data_are_brought_to_the_dtype_of_the_weights(data):
    vae = small_vae().float()
    assert quiet(vae, data, steps=2).history["loss"].shape == (2,)
    assert evaluate(vae, data)["elbo"] < 0


def test_numpy_numbers_are_numbers():
    vae = small_vae(prior=np.float32(0.5), latents=np.int64(2))
    history = quiet(vae, X, beta=np.float32(2.0), steps=2, validation=np.float32(0.1)).history
    assert history["beta"].tolist() == [2.0, 2.0]


def test_records_come_every_hundredth_step_and_average_since_the_last():
    whole = quiet(small_vae(), X, steps=12, every=1).history
    result = quiet(small_vae(), X, steps=12, every=5).history
    assert result["step"].tolist() == [5, 10, 12]
    for name in ("loss", "kl_per_latent.z"):
        means = [whole[name][part].mean(0) for part in (slice(5), slice(5, 10), slice(10, 12))]
        assert result[name] == pytest.approx(np.stack(means))
    assert quiet(small_vae(), X, steps=250).history["step"].tolist()[:2] == [2, 4]


def test_the_split_follows_the_seed():
    parts = [split(X[:, 0, 0, 0], 0.2, seed=seed)[1].indices.tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_a_step_is_pyros_step_on_the_loss_per_datum():
    """Plain SGD, so the scale of the gradient shows: summed loss at lr/n is mean loss at lr."""
    ours, theirs = small_vae(), small_vae()
    sgd = partial(torch.optim.SGD, lr=0.1)
    quiet(ours, X, beta=4.0, steps=1, batch_size=200, optim=sgd, seed=7)
    model, guide = tempered(theirs, 4.0)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(7))
    torch.manual_seed(7)
    svi = pyro.infer.SVI(
        model, guide, pyro.optim.SGD({"lr": 0.1 / 200}), pyro.infer.TraceMeanField_ELBO()
    )
    svi.step(X[order])
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def test_recorded_steps_give_the_same_run_bit_for_bit():
    eager, recorded = small_vae(), small_vae()
    schedule = schedules.linear(0.0, 4.0, steps=10)
    arguments = {"beta": schedule, "steps": 20, "every": 4, "batch_size": 50}
    first = quiet(eager, X, **arguments)
    second = quiet(recorded, X, **arguments, compile="recorded")
    assert same(weights(eager), weights(recorded))
    for name, values in first.history.items():
        assert np.array_equal(values, second.history[name]), name


def test_history_is_per_datum_and_adds_up():
    history = quiet(small_vae(), X, beta=4.0, steps=10, every=5, batch_size=50).history
    assert history["step"].tolist() == [5, 10]
    assert history["beta"].tolist() == [4, 4]
    assert history["kl_per_latent.z"].shape == (2, 2)
    assert history["kl_per_latent.z"].sum(1) == pytest.approx(history["kl"])
    assert history["elbo"] == pytest.approx(-history["reconstruction"] - history["kl"])
    assert history["loss"] == pytest.approx(history["reconstruction"] + 4 * history["kl"])
    assert 0.3 * 64 < history["reconstruction"][0] < 64, "64 pixels, under ln 2 each and near it"


def test_global_latents_weigh_once_per_data_set():
    vae = small_vae(prior=dist.HalfNormal(2.0))
    batch = X[torch.randperm(200, generator=torch.Generator().manual_seed(0))[:20]]
    draw = vae.prior.scale.posterior()
    torch.manual_seed(0)
    scale = draw.sample()
    log_ratio = draw.log_prob(scale) - dist.HalfNormal(2.0).log_prob(scale)
    kl_z = torch.distributions.kl_divergence(
        vae.posterior(batch).base_dist, dist.Normal(torch.zeros(2), scale)
    )
    history = quiet(vae, X, steps=1, batch_size=20).history
    assert history["kl_prior_scale"][0] == pytest.approx(log_ratio.item() / 200)
    assert history["kl_z"][0] == pytest.approx(kl_z.sum(1).mean().item())


def test_any_pair_of_functions_is_trained_and_lazy_parameters_too():
    x = torch.randn(100) + 3

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", 100, subsample=x):
            z = pyro.sample("z", dist.Normal(loc, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        weight = pyro.param("weight", torch.tensor(0.1))
        shift = pyro.param("shift", torch.tensor(0.0)) if calls > 5 else 0.0
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("data", 100, subsample=x):
            pyro.sample("z", dist.Normal(weight * x + shift, scale))

    calls = 0

    def count(_: Record) -> None:
        nonlocal calls
        calls += 1

    quiet(
        (model, guide),
        x,
        steps=600,
        every=10,
        batch_size=50,
        callbacks=[count],
        optim=partial(torch.optim.Adam, lr=0.05),
    )
    store = pyro.get_param_store()
    exact = {"loc": x.mean().item(), "weight": 0.5, "scale": 0.5**0.5}
    for name, value in exact.items():
        assert store[name].item() == pytest.approx(value, abs=0.1), name
    assert store["shift"].item() == pytest.approx(x.mean().item() / 2, abs=0.15)


def test_beta_follows_its_schedule():
    result = quiet(small_vae(), X, beta=schedules.linear(0.0, 4.0, steps=4), steps=6, every=1)
    assert result.history["beta"].tolist() == [0, 1, 2, 3, 4, 4]
    loss = result.history["reconstruction"] + result.history["beta"] * result.history["kl"]
    assert result.history["loss"] == pytest.approx(loss)


def test_early_stopping_and_validation():
    result = quiet(
        small_vae(),
        X,
        steps=100,
        every=5,
        validation=0.25,
        callbacks=[EarlyStopping(patience=2, margin=1e6)],
    )
    assert result.steps == 15
    assert result.history["validation_elbo"].shape == (3,)


def test_early_stopping_waits_for_the_objective_not_for_the_elbo_at_one():
    """At β = 8 the loss falls while the ELBO at β = 1, good before, falls too."""
    vae = small_vae()
    quiet(vae, X, beta=1.0, steps=400)
    result = quiet(
        vae,
        X,
        beta=8.0,
        steps=100,
        every=10,
        validation=X,
        batch_size=200,
        callbacks=[EarlyStopping(patience=2)],
    )
    history = result.history
    assert result.steps == 100
    assert (np.diff(history["validation_loss"]) < 0).all()
    assert history["validation_elbo"][-1] < history["validation_elbo"][0]
    kl, elbo = history["kl"][-1], history["validation_elbo"][-1]
    assert history["validation_loss"][-1] == pytest.approx(-elbo + 7 * kl, rel=0.05)


def test_early_stopping_counts_from_the_last_best_and_starts_over_with_a_new_run():
    stop = EarlyStopping(patience=2, monitor="loss")

    def ends(losses: list[float]) -> list[bool]:
        records = [Record(i, 9, {"loss": loss}, (print, print)) for i, loss in enumerate(losses)]
        return [stop(record) for record in records]

    assert ends([3.0, 4.0, 2.0, 2.5, 2.4]) == [False, False, False, False, True]
    assert ends([9.0, 9.5]) == [False, False], "a new run: the old best, 2, is forgotten"
    with pytest.raises(ValueError, match="loss"):
        EarlyStopping(patience=2, monitor="kl")


def test_a_global_latents_kl_is_spread_over_the_training_data_in_validation_too():
    vae = small_vae(prior=dist.HalfNormal(2.0))
    held_out = evaluate(vae, X[:10], size=200)["kl_per_latent.prior_scale"]
    alone = evaluate(vae, X[:10])["kl_per_latent.prior_scale"]
    assert alone == pytest.approx(20 * held_out)


def test_validation_data_are_never_trained_on():
    seen: dict[bool, set[float]] = {True: set(), False: set()}

    def model(x: Tensor) -> None:
        seen[torch.is_grad_enabled()].update(x.tolist())
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.0)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    quiet((model, guide_of_z), torch.arange(20.0), steps=40, batch_size=5, validation=0.25)
    trained, evaluated = seen[True], seen[False]
    assert (len(trained), len(evaluated)) == (15, 5)
    assert not trained & evaluated


def test_early_stopping_without_validation_says_so():
    with pytest.raises(ValueError, match="validation_loss"):
        quiet(small_vae(), X, steps=2, callbacks=[EarlyStopping(patience=1)])


def test_evaluate_is_the_average_over_all_data_whatever_the_batches():
    vae = small_vae()
    q = vae.posterior(X)
    kl = torch.distributions.kl_divergence(q.base_dist, dist.Normal(0.0, 1.0)).mean(0)
    for batch_size in (7, 64, 1000):
        values = evaluate(vae, X, batch_size=batch_size)
        assert values["kl_per_latent.z"] == pytest.approx(kl.detach().numpy())
        assert values["kl"] == pytest.approx(kl.sum().item())
        assert values["elbo"] == pytest.approx(-values["reconstruction"] - values["kl"])
    assert evaluate(tempered(vae, 8.0), X)["elbo"] == pytest.approx(evaluate(vae, X)["elbo"])


def test_evaluation_is_without_dropout_and_training_goes_on_with_it():
    encoder = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(64, 8))
    vae = VAE(
        prior=NormalPrior(2),
        likelihood=BernoulliLikelihood(mlp_decoder(2, (1, 8, 8))),
        posterior=MeanFieldPosterior(encoder, latents=2, features=8),
    )
    kls = [evaluate(vae, X, seed=seed)["kl"] for seed in (0, 1)]
    assert kls[0] == kls[1], "the KL is in closed form, so only dropout could make it differ"
    assert vae.training
    assert encoder[1].training


def test_run_directory_holds_weights_settings_and_history(tmp_path):
    vae = small_vae()
    result = quiet(vae, X, beta=2.0, steps=10, run=tmp_path / "run")
    run = Run(tmp_path / "run")
    other = small_vae(seed=1)
    run.load_into(other)
    assert same(weights(vae), weights(other))
    assert {k: v.tolist() for k, v in run.history().items()} == {
        k: v.tolist() for k, v in result.history.items()
    }
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["beta"] == {"beta": 2.0}
    assert (settings["steps"], settings["data"]) == (10, 200)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "best.safetensors",
        "checkpoints",
        "history.json",
        "settings.json",
        "weights.safetensors",
    ]
    with pytest.raises(FileExistsError, match="already holds a run"):
        quiet(vae, X, steps=1, run=tmp_path / "run")
    quiet(vae, X, steps=1, run=tmp_path / "run", overwrite=True)


def test_a_nan_loss_stops_with_the_step_and_keeps_what_was_saved(tmp_path):
    vae = small_vae()

    def poison(record: Record) -> None:
        if record.step == 4:
            vae.posterior.head.bias.data.fill_(torch.nan)

    with pytest.raises(NonFiniteLossError, match=r"step 5.*reconstruction.*learning rate") as error:
        quiet(vae, X, steps=20, every=2, callbacks=[poison], run=tmp_path)
    assert error.value.step == 5
    assert error.value.last["reconstruction"] < 64
    run = Run(tmp_path)
    assert run.history()["step"].tolist() == [2, 4]
    assert all(value.isfinite().all() for value in run.read_weights().values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """`where` hides the NaN of √ below 0 in the loss, but not in the gradient."""

    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 64)

        def forward(self, z: Tensor) -> Tensor:
            h = self.linear(z)
            return torch.where(h > 0, h.sqrt(), 0.0).reshape(-1, 1, 8, 8)

    vae = small_vae()
    vae.likelihood.decoder = Rooted()
    with pytest.raises(NonFiniteLossError, match="a parameter is not finite at step 1"):
        quiet(vae, X, steps=3, every=1, run=tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()


def no_parameters(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)


def guide_without_z(x: Tensor) -> None:
    pyro.param("unused", torch.tensor(0.0))


def guide_of_z(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 1.0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 201}, ValueError, "batch_size: expected at most 200"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"steps": 0}, ValueError, "steps"),
        ({"data": X[:0]}, ValueError, "at least one"),
        ({"data": X.where(X < 1, torch.nan)}, ValueError, "NaN"),
        ({"data": X * 2}, ValueError, r"\[0, 1\]"),
        ({"data": X.numpy() * 2}, ValueError, r"\[0, 1\]"),
        ({"data": X[:, 0]}, ValueError, r"expected shape \[batch, 1, 8, 8\]"),
        ({"data": X.repeat(1, 3, 1, 1)}, ValueError, r"expected shape \[batch, 1, 8, 8\]"),
        ({"data": X[..., :4]}, ValueError, r"expected shape \[batch, 1, 8, 8\]"),
        ({"beta": -1.0}, ValueError, "beta"),
        ({"beta": float("inf")}, ValueError, "beta"),
        ({"beta": "4"}, TypeError, "beta"),
        ({"beta": lambda step: -1.0}, ValueError, "schedule"),
        ({"validation": 1.5}, ValueError, "validation"),
        ({"objective": pyro.infer.Trace_ELBO()}, TypeError, "objective"),
        ({"pair": 3}, TypeError, "pair"),
        ({"pair": tempered(small_vae(), 4.0)}, ValueError, "tempered"),
        ({"compile": "fast"}, ValueError, "compile"),
        ({"steps": 2.5}, ValueError, "steps"),
        ({"every": 0}, ValueError, "every"),
        ({"seed": "a"}, ValueError, "seed: expected a whole number"),
        ({"seed": -1}, ValueError, "seed: expected a whole number"),
        ({"seed": 1.5}, ValueError, "seed: expected a whole number"),
        ({"callbacks": [3]}, TypeError, r"callbacks\[0\]: expected a callable"),
        ({"callbacks": print}, TypeError, "put a single one into a list"),
        ({"keep": 0, "run": "unused"}, ValueError, "keep"),
        ({"resume": True}, ValueError, "no run=, the directory"),
        ({"resume": True, "overwrite": True, "run": "unused"}, ValueError, "overwrite=True as"),
        ({"data": digits()}, TypeError, r"data\.images"),
        ({"data": (X, X)}, TypeError, "batches of 2 tensors"),
        ({"pair": (no_parameters, guide_of_z), "data": torch.ones(200)}, ValueError, "parameters"),
        ({"pair": (no_parameters, guide_without_z), "data": torch.ones(200)}, ValueError, "'z'"),
    ],
)
def test_bad_input_is_refused_at_the_door(change, error, message):
    arguments = {"pair": small_vae(), "data": X, "steps": 2} | change
    with pytest.raises(error, match=message):
        quiet(arguments.pop("pair"), arguments.pop("data"), **arguments)
    assert not pyro.poutine.runtime._PYRO_STACK


def test_late_bad_values_in_data_read_lazily_are_refused():
    class Lazy:
        def __len__(self) -> int:
            return 100

        def __getitem__(self, indices: Tensor) -> Tensor:
            return torch.where((indices == 77)[:, None, None, None], 2.0, X[indices])

    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        quiet(small_vae(), Lazy(), steps=20, batch_size=10)


def test_tuple_data_become_the_arguments():
    def model(x: Tensor, c: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.0)) * c, 1.0))
            pyro.sample("x", dist.Normal(z, 0.1), obs=x)

    def guide(x: Tensor, c: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 0.1))

    c = torch.linspace(-1, 1, 64)
    adam = partial(torch.optim.Adam, lr=0.05)
    quiet((model, guide), (3 * c, c), steps=400, optim=adam)
    assert pyro.param("m").item() == pytest.approx(3.0, abs=0.05)


def test_normal_likelihood_trains_on_vectors():
    vae = VAE(
        prior=NormalPrior(1),
        likelihood=NormalLikelihood(mlp_decoder(1, (3,), hidden=()), scale="learned"),
        posterior=MeanFieldPosterior(mlp_encoder((3,), hidden=()), latents=1),
    )
    history = quiet(vae, torch.randn(100, 3), steps=200).history
    assert history["elbo"][-10:].mean() > history["elbo"][:10].mean()
