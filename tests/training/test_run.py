"""The run directory: written whole, read safely, its damage named."""

import json

import pytest
import torch
from torch import nn

from pyro_bvae.training import Run


def test_weights_survive_tied_and_strided_tensors(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    weights = {"a": shared, "b": shared, "c": shared.mT}
    run = Run(tmp_path)
    run.write_weights(weights)
    assert all(torch.equal(run.read_weights()[name], weights[name]) for name in weights)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "missing"])
def test_damaged_weights_are_named(tmp_path, damage):
    run = Run(tmp_path)
    run.write_weights({"weight": torch.ones(100)})
    path = tmp_path / "weights.safetensors"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50] if damage == "truncated" else b"\x80\x04pickle")
    with pytest.raises((ValueError, FileNotFoundError), match=r"weights\.safetensors"):
        run.read_weights()


def test_other_modules_weights_are_refused(tmp_path):
    run = Run(tmp_path)
    run.write_weights(nn.Linear(2, 3).state_dict())
    with pytest.raises(ValueError, match="expected the weights of this Linear"):
        run.load_into(nn.Linear(3, 2))


def test_corrupt_json_is_named(tmp_path):
    run = Run(tmp_path)
    run.write_json("settings.json", {"beta": 4.0})
    assert run.read_json("settings.json") == {"beta": 4.0}
    (tmp_path / "settings.json").write_text('{"beta": 4')
    with pytest.raises(ValueError, match=r"settings\.json.*corrupt"):
        run.read_json("settings.json")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    run = Run(tmp_path)
    run.write_json("history.json", {"step": [1]})
    with pytest.raises(TypeError):
        run.write_json("history.json", {"step": object()})
    assert json.loads((tmp_path / "history.json").read_text()) == {"step": [1]}
