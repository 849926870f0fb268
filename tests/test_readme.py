"""Every Python block of the README runs, in order, in one namespace; training is cut short."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

import pyro_bvae

README = Path(__file__).parents[1] / "README.md"


def test_every_block_runs(monkeypatch: pytest.MonkeyPatch):
    text = README.read_text(encoding="utf-8")
    languages = re.findall(r"^```(\w*)\n", text, re.MULTILINE)
    assert set(languages) <= {"python", ""}, "blocks of other languages would go untested"
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    steps = []

    def short(*args: object, **kwargs: object) -> object:
        steps.append(kwargs["steps"])
        return fit(*args, **kwargs | {"steps": 3, "progress": False})

    fit = pyro_bvae.fit
    monkeypatch.setattr(pyro_bvae, "fit", short)
    torch.set_default_dtype(torch.float32)
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"README block {number}", "exec"), namespace)
    assert min(steps) >= 1000, "the README shows real training lengths"
    assert namespace["loss"] > 0
    assert namespace["codes"].shape == (64, 10)
    assert namespace["best"].active == 2


def test_every_part_that_is_named_exists():
    packages = "priors likelihoods posteriors models networks objectives datasets diagnostics"
    known = {
        name
        for package in packages.split()
        for name in import_module(f"pyro_bvae.{package}").__all__
    }
    tables = re.findall(r"^\| (`.*?) \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    named = set(re.findall(r"`([A-Za-z_]+)[(`]", " ".join(tables)))
    assert len(named) > 40
    assert named <= known | {"make"}, named - known


def test_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    headings = {f"#{h.lower().replace(' ', '-')}" for h in re.findall(r"^#+ (.*)$", text, re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        outside = target.startswith("http") or target in headings
        assert outside or (README.parent / target).exists(), target
