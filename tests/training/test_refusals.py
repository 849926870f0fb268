"""What `fit` refuses of its arguments: how the optimiser, β, validation, run and callbacks come."""

import threading
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from torch.optim import LBFGS, SGD, Adam, Optimizer, SparseAdam
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, StepLR

from pyro_bvae.networks import mlp_critic
from pyro_bvae.objectives import FactorELBO
from pyro_bvae.training import EarlyStopping
from tests.training.test_fit import X, quiet, same, small_vae, weights

SMALL = {"batch_size": 20, "compile": "eager"}
WARM_UP = partial(LinearLR, start_factor=1.0, total_iters=2)


def others(parameters: Any) -> Adam:
    return Adam([torch.ones(1, requires_grad=True)])


def wordless() -> float:
    return 1.0


def assert_refused_untrained(error, words, **options):
    """Whether `fit` refuses this, and leaves the weights as they were."""
    vae = small_vae()
    before = weights(vae)
    with pytest.raises(error, match=words):
        quiet(vae, X, steps=3, **options, **SMALL)
    assert same(weights(vae), before)


@pytest.mark.parametrize(
    "optim",
    [
        partial(Adam, lr=0),
        partial(SGD, lr=torch.tensor(0.0)),
        pyro.optim.Adam({"lr": 0.0}),
        pyro.optim.ClippedAdam({"lr": 0.0}),
    ],
)
def test_a_rate_of_zero_that_nothing_raises_is_refused(optim):
    words = r"optim: expected a learning rate > 0, .* lr_schedule="
    assert_refused_untrained(ValueError, words, optim=optim)


def test_a_rate_may_begin_at_zero_where_a_schedule_moves_it():
    warm_up = partial(LambdaLR, lr_lambda=lambda step: step / 3)
    vae = small_vae()
    before = weights(vae)
    quiet(vae, X, steps=3, optim=partial(Adam, lr=0.1), lr_schedule=warm_up, **SMALL)
    assert not same(weights(vae), before)


def test_a_schedule_of_pyros_which_fit_would_not_step_is_refused():
    arguments = {"optimizer": Adam, "optim_args": {"lr": 0.1}, "lr_lambda": lambda step: step}
    words = "optim: expected one without a schedule of its own, got .*LambdaLR.* as lr_schedule="
    assert_refused_untrained(TypeError, words, optim=pyro.optim.LambdaLR(arguments))


class Remembering:
    """A callback whose state nothing can write."""

    def __call__(self, record):
        pass

    def state(self):
        return {"seen": {frozenset(): 1}}

    def load_state(self, state):
        pass


def test_a_callbacks_state_that_cannot_be_written_is_refused_before_any_step(tmp_path):
    words = r"callbacks\[1\]\.state\(\): state/seen: expected keys"
    callbacks = [print, Remembering()]
    assert_refused_untrained(TypeError, words, callbacks=callbacks, run=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("optim", "error", "message"),
    [
        (lambda _: None, TypeError, r"returns a torch\.optim optimiser, got .* returns NoneType"),
        (lambda _: 3, TypeError, "got one that returns int"),
        (lambda _: pyro.optim.Adam({"lr": 0.1}), TypeError, "got one that returns PyroOptim"),
        (others, ValueError, "has none of them, so nothing would be trained"),
        (LBFGS, ValueError, "one dense gradient of each parameter per step, got LBFGS"),
        (SparseAdam, ValueError, "one dense gradient of each parameter per step, got SparseAdam"),
        (pyro.optim.Adam, TypeError, r"got pyro\.optim's Adam uncalled"),
        (pyro.optim.ClippedAdam, TypeError, r"got pyro\.optim's ClippedAdam uncalled"),
        (Optimizer, TypeError, "got Optimizer: missing a required argument: 'defaults'"),
        (wordless, TypeError, "one argument, parameters, got wordless: too many"),
        ({"lr": 0.1}, TypeError, "a callable from parameters to a torch.optim one, got dict"),
    ],
)
@pytest.mark.parametrize("where", ["optim", "with a schedule", "critic_optim"])
def test_an_optimiser_that_trains_nothing_is_refused(where, optim, error, message):
    """Where the network of a critic is trained, in the name of its own argument."""
    given: dict[str, Any] = {"optim": optim}
    if where == "with a schedule":
        given["lr_schedule"] = WARM_UP
    if where == "critic_optim":
        objective = FactorELBO(mlp_critic(2, hidden=(4,)), gamma=1.0)
        given = {"critic_optim": optim, "objective": objective}
    name = "critic_optim" if where == "critic_optim" else "optim"
    with pytest.raises(error, match=rf"^{name}: .*{message}"):
        quiet(small_vae(), X, steps=2, **given, **SMALL)


def test_a_critics_optimiser_is_a_torch_one():
    objective = FactorELBO(mlp_critic(2, hidden=(4,)), gamma=1.0)
    optim = pyro.optim.Adam({"lr": 0.1})
    with pytest.raises(TypeError, match=r"critic_optim: expected a callable .* got PyroOptim"):
        quiet(small_vae(), X, steps=2, objective=objective, critic_optim=optim, **SMALL)


def test_a_class_of_optimisers_with_a_default_rate_is_a_factory():
    quiet(small_vae(), X, steps=2, optim=SGD, **SMALL)


def given(function):
    """Decorate a function so that its caller need not give its learning rate."""
    return wraps(function)(lambda first: function(first, 0.1))


class Locked(StepLR):
    """A schedule that holds what cannot be copied."""

    def __init__(self, optimiser, gamma):
        self.lock = threading.Lock()
        super().__init__(optimiser, 1, gamma)


def test_what_takes_its_other_arguments_from_elsewhere_trains():
    optim = given(lambda parameters, rate: Adam(parameters, lr=rate))
    quiet(small_vae(), X, steps=2, optim=optim, lr_schedule=given(Locked), **SMALL)
    quiet(small_vae(), X, steps=2, optim=pyro.optim.clipped_adam.ClippedAdam, **SMALL)


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (CosineAnnealingLR, TypeError, "got CosineAnnealingLR: missing .* 'T_max'; fix other arg"),
        (wordless, TypeError, "one argument, a torch optimiser, got wordless"),
        (lambda _: StepLR(others([]), 1), ValueError, "got one of another"),
    ],
)
def test_a_schedule_of_something_else_is_refused(schedule, error, message):
    with pytest.raises(error, match=f"^lr_schedule: .*{message}"):
        quiet(small_vae(), X, steps=2, lr_schedule=schedule, **SMALL)


@pytest.mark.parametrize(
    ("beta", "error", "message"),
    [
        (None, TypeError, "got NoneType"),
        ("1", TypeError, "got str"),
        (True, TypeError, "got bool"),
        (torch.ones(2), ValueError, r"got a tensor of shape \[2\]"),
        (float("nan"), ValueError, "got nan"),
    ],
)
def test_a_schedule_that_gives_no_beta_is_refused_with_the_step(beta, error, message):
    expected = "schedule at step 1: expected a finite number >= 0 or a 0-dim tensor of one"
    with pytest.raises(error, match=f"^beta, by its {expected}, {message}"):
        quiet(small_vae(), X, steps=3, beta=lambda step: beta if step else 1.0, **SMALL)


def test_a_schedule_of_beta_is_asked_for_a_step():
    with pytest.raises(TypeError, match="beta: expected a callable of one argument, the step"):
        quiet(small_vae(), X, steps=2, beta=wordless, **SMALL)


@pytest.mark.parametrize("beta", [2, torch.tensor(2.0), torch.tensor(2, dtype=torch.int64)])
def test_a_schedule_may_give_whole_numbers_and_tensors(beta):
    result = quiet(small_vae(), X, steps=1, beta=lambda step: beta, **SMALL)
    assert result.history["beta"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("validation", "error", "message"),
    [
        (float("nan"), ValueError, r"a share in \(0, 1\) of the 200 data .* got nan"),
        (float("inf"), ValueError, r"a share in \(0, 1\) .* got inf"),
        (5, ValueError, r"a share in \(0, 1\) .* got 5"),
        ("0.1", TypeError, "expected a tensor, a NumPy array, .* got str"),
        (X * 2, ValueError, r"x: expected values in \[0, 1\]"),
        ((X, X), TypeError, "expected what model and guide take, got batches of 2"),
    ],
)
def test_validation_data_are_refused_before_any_step(validation, error, message):
    words = f"^validation: (expected data, or )?{message}"
    assert_refused_untrained(error, words, validation=validation)


def test_validation_data_of_another_shape_are_named_without_a_page_of_shapes():
    with pytest.raises(ValueError, match=r"^validation: x: expected shape") as caught:
        quiet(small_vae(), X, steps=1, validation=X[..., :4], **SMALL)
    assert "Trace Shapes" not in str(caught.value)


def test_one_bad_datum_is_found_before_any_step_where_a_share_is_held_out():
    vae, data = small_vae(), X.clone()
    before = weights(vae)
    data[77] = 2.0
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        quiet(vae, data, steps=1, validation=0.5, batch_size=1, compile="eager")
    assert same(weights(vae), before)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (3, TypeError, r"run: expected a path \(str or Path\) or None, got int"),
        (True, TypeError, "got bool"),
        ("", ValueError, "run: expected the path of a directory"),
        ("file", NotADirectoryError, "run: expected a directory, got the file file"),
        (Path("file", "below"), NotADirectoryError, "run: expected a directory, got the file file"),
    ],
)
def test_a_run_is_a_directory(run, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    with pytest.raises(error, match=message):
        quiet(small_vae(), X, steps=1, run=run, overwrite=True, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (None, r"callbacks: .* got NoneType; .* for none pass callbacks=\(\)"),
        (lambda record: None, "callbacks: .* got function; put a single one into a list"),
        ([EarlyStopping], r"callbacks\[0\]: .* for a class, pass an instance"),
        ([print, wordless], r"callbacks\[1\]: expected a callable of one argument, a Record"),
    ],
)
def test_callbacks_are_instances_in_a_list(callbacks, message):
    with pytest.raises(TypeError, match=message):
        quiet(small_vae(), X, steps=1, callbacks=callbacks, **SMALL)


def test_an_objective_that_counts_as_false_is_no_objective():
    with pytest.raises(TypeError, match=r"objective: expected an Objective .* got int"):
        quiet(small_vae(), X, steps=1, objective=0, **SMALL)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"data": X[..., :4]}, ValueError),
        ({"optim": partial(Adam, lr=0.0)}, ValueError),
        ({"lr_schedule": lambda _: None}, TypeError),
        ({"callbacks": [EarlyStopping(patience=1)]}, ValueError),
        ({"batch_size": 500}, ValueError),
    ],
)
def test_what_is_refused_replaces_no_run(change, error, tmp_path):
    quiet(small_vae(), X, steps=2, run=tmp_path, **SMALL)
    before = contents(tmp_path)
    options = {"data": X, "steps": 3, **SMALL} | change
    with pytest.raises(error):
        quiet(small_vae(), options.pop("data"), run=tmp_path, overwrite=True, **options)
    assert contents(tmp_path) == before


def test_a_run_that_is_replaced_is_as_if_nothing_had_been_there(tmp_path):
    quiet(small_vae(), X, steps=9, run=tmp_path / "new", every=3, **SMALL)
    quiet(small_vae(), X, steps=20, run=tmp_path / "old", validation=0.2, **SMALL)
    quiet(small_vae(), X, steps=9, run=tmp_path / "old", every=3, overwrite=True, **SMALL)
    new, old = contents(tmp_path / "new"), contents(tmp_path / "old")
    for name in ("settings.json", "history.json", "weights.safetensors", "best.safetensors"):
        assert old[tmp_path / "old" / name] == new[tmp_path / "new" / name]
    assert len(old) == len(new)
