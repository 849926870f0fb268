"""The command line, end to end on small runs, and what it says of bad input."""

import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from pyro_bvae import fit, recipe
from pyro_bvae.cli import main
from pyro_bvae.datasets import Sprites
from pyro_bvae.diagnostics import disentanglement_scores
from pyro_bvae.recipe import Recipe, load
from pyro_bvae.training.session import Session


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the real digits, a few steps long."""
    torch.set_default_dtype(torch.float32)
    path = tmp_path_factory.mktemp("runs") / "digits"
    options = [
        "--data",
        "digits",
        "--net",
        "mlp",
        "--latents",
        "3",
        "--beta",
        "1",
        "--steps",
        "60",
        "--seed",
        "1",
    ]
    assert main(["train", str(path), *options, "--steps", "60"]) == 0
    return path


@pytest.fixture(autouse=True)
def float32(float64_seeded_and_clean):
    """As a user of the command line has it."""
    torch.set_default_dtype(torch.float32)


def test_train_writes_everything(run):
    written = sorted(path.name for path in run.iterdir())
    assert written == [
        "best.safetensors",
        "checkpoints",
        "history.json",
        "recipe.json",
        "report.html",
        "settings.json",
        "weights.safetensors",
    ]
    assert json.loads((run / "recipe.json").read_text())["latents"] == 3
    assert json.loads((run / "history.json").read_text())["step"][-1] == 60


def test_the_loaded_run_is_the_trained_model(run):
    settings, vae, data = load(run)
    assert settings == Recipe(data="digits", net="mlp", latents=3, beta=1.0, steps=60, seed=1)
    again = settings.build((1, 8, 8))
    settings.train(run.parent / "again", progress=False)
    again = load(run.parent / "again")[1]
    for name, value in vae.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert len(data) == 1797


def test_evaluate_prints_the_numbers_and_leaves_the_report_alone(run, capsys):
    before = (run / "report.html").stat().st_mtime_ns
    assert main(["evaluate", str(run)]) == 0
    printed = capsys.readouterr().out
    values = {
        k: float(v) for k, v in re.findall(r"^(elbo|reconstruction|kl) +(\S+)$", printed, re.M)
    }
    assert values["elbo"] == pytest.approx(-values["reconstruction"] - values["kl"], abs=0.02)
    assert 0 < values["reconstruction"] < 64 * np.log(2)
    assert (run / "report.html").stat().st_mtime_ns == before


def test_evaluate_prints_every_metric_of_known_factors(tmp_path, monkeypatch, capsys):
    grid = {"shape": [1], "orientation": [0], "posX": range(0, 32, 6), "posY": range(0, 32, 6)}
    monkeypatch.setitem(recipe.DATASETS, "dots", lambda size: Sprites(32).subset(**grid))
    path = str(tmp_path / "dots")
    options = ["--data", "dots", "--net", "mlp", "--latents", "3", "--steps", "20"]
    assert main(["train", path, *options]) == 0
    assert len(capsys.readouterr().out.splitlines()) <= 12
    assert main(["evaluate", path]) == 0
    printed = capsys.readouterr().out
    table = disentanglement_scores(*load(path)[1:], seed=0)
    assert len(table.rows) == 12
    assert printed.endswith(f"\n{table}\n")


def test_report_is_written_again(run, capsys):
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "no-such-thing"], "data: expected one of wide-sprites"),
        (["--data", "digits", "--size", "32"], "size: digits has images of size 8"),
        (["--data", "digits", "--beta", "-1"], "beta"),
        (["--data", "digits", "--latents", "0"], "latents"),
        (["--data", "digits", "--prior-scale", "0"], "scale"),
        (["--data", "digits", "--prior-scale", "wide"], "scale"),
        (["--data", "digits", "--batch-size", "5000"], "batch_size"),
        (["--data", "digits", "--steps", "0"], "steps"),
        (["--data", "digits", "--likelihood-scale", "learned"], "likelihood_scale"),
        (["--data", "empty.npy"], "empty.npy"),
    ],
)
def test_bad_options_are_one_line_and_status_2(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.npy").touch()
    assert main(["train", str(tmp_path / "run"), "--net", "mlp", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pyro-bvae train: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "option",
    [
        ["--beta", "-1"],
        ["--steps", "0"],
        ["--batch-size", "0"],
        ["--latents", "0"],
        ["--learning-rate", "0"],
        ["--seed", "-1"],
    ],
)
def test_bad_options_replace_no_run(option, run, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert main(["train", str(run), "--overwrite", "--data", "digits", *option]) == 2
    assert option[0].removeprefix("--").replace("-", "_") in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}


def test_a_file_is_no_run(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["train", str(tmp_path / "file"), "--overwrite"]) == 2
    assert "run: expected a directory, got the file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_every_option_reaches_what_it_names(tmp_path):
    """Options far from the defaults, read off the run they made."""
    options = ["--data", "digits", "--net", "locatello", "--latents", "4", "--beta", "3", "--seed"]
    options += ["5", "--prior-scale", "per_latent", "--likelihood", "normal", "--steps", "7"]
    options += ["--likelihood-scale", "0.5", "--batch-size", "9", "--learning-rate", "0.01"]
    assert main(["train", str(tmp_path), *options]) == 0
    _, vae, _ = load(tmp_path)
    assert vae.prior.scale().shape == (4,)
    assert vae.likelihood.scale().item() == 0.5
    kernels = [m.kernel_size for m in vae.posterior.encoder.modules() if hasattr(m, "kernel_size")]
    assert kernels == [(4, 4)]
    written = json.loads((tmp_path / "settings.json").read_text())
    assert written["beta"] == {"beta": 3.0}
    assert (written["steps"], written["batch_size"], written["seed"]) == (7, 9, 5)
    assert written["optim"] == "torch.optim.adam.Adam(lr=0.01)"


def test_a_run_of_fit_alone_is_told_apart(tmp_path, capsys):
    vae = Recipe(data="digits", net="mlp").build((1, 8, 8))
    fit(vae, torch.rand(10, 1, 8, 8), steps=1, batch_size=5, run=tmp_path, progress=False)
    assert main(["report", str(tmp_path)]) == 2
    assert "load_into" in capsys.readouterr().err


def test_an_existing_run_is_not_replaced_by_accident(run, capsys):
    assert main(["train", str(run), "--data", "digits"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_missing_run_says_where_it_looked(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "recipe.json" in capsys.readouterr().err


def test_a_recipe_of_another_version_is_refused(run, tmp_path):
    (tmp_path / "recipe.json").write_text('{"data": "digits", "colour": "blue"}')
    with pytest.raises(ValueError, match=r"unknown or missing.*colour"):
        load(tmp_path)


def test_convolutions_on_vectors_are_refused(tmp_path, capsys):
    np.save(tmp_path / "table.npy", np.zeros((100, 5), dtype=np.float32))
    options = ["--data", str(tmp_path / "table.npy"), str(tmp_path / "run")]
    assert main(["train", *options]) == 2
    assert "use net 'mlp'" in capsys.readouterr().err
    assert main(["train", *options, "--net", "mlp", "--likelihood", "normal", "--steps", "3"]) == 0


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["report"]])
def test_help_says_what_to_type(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: pyro-bvae")
    assert ("--beta" in shown) == (command == ["train"])


def test_python_m_is_the_command():
    command = [sys.executable, "-m", "pyro_bvae", "report", "no-such-run"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("pyro-bvae report: ")


def test_an_interrupted_run_goes_on_to_what_it_would_have_been(tmp_path, capsys, monkeypatch):
    """Ctrl-C at the 20th record, and `--resume` with nothing but the directory."""
    options = ["--data", "digits", "--net", "mlp", "--latents", "2", "--steps", "40"]
    assert main(["train", str(tmp_path / "whole"), *options]) == 0
    add = Session.add

    def press(session, record):
        add(session, record)
        if record.step == 20:
            monkeypatch.setattr(Session, "add", add)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Session, "add", press)
    capsys.readouterr()
    broken = str(tmp_path / "broken")
    assert main(["train", broken, *options]) == 130
    assert f"train {broken} --resume" in capsys.readouterr().err
    assert not (tmp_path / "broken" / "report.html").exists()
    assert main(["train", broken, "--resume", "--beta", "1"]) == 2
    assert "beta: the run has 4.0, got 1.0" in capsys.readouterr().err
    assert main(["train", broken, "--resume"]) == 0
    for name in ("weights.safetensors", "history.json", "recipe.json"):
        whole, again = ((tmp_path / run / name).read_bytes() for run in ("whole", "broken"))
        assert whole == again, name
    assert main(["train", broken, "--resume", "--steps", "50"]) == 0
    assert json.loads((tmp_path / "broken" / "history.json").read_text())["step"][-1] == 50


@pytest.mark.parametrize(
    "options",
    [
        ["--overwrite", "--data", "digits", "--net", "mlp", "--batch-size", "5000"],
        ["--resume", "--steps", "10"],
    ],
)
def test_what_training_refuses_replaces_no_run(options, run, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["train", str(run), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
