"""What may import what, and that importing the package changes nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_bvae

ROOT = Path(pyro_bvae.__file__).parent
FREE = {"types", "scale", "checks", "images"}
BELOW = {
    "networks": set(),
    "theory": set(),
    "metrics": set(),
    "datasets": set(),
    "priors": {"networks"},
    "likelihoods": {"networks"},
    "posteriors": {"networks"},
    "models": {"priors", "likelihoods", "posteriors", "networks"},
    "beta": set(),
    "objectives": {"beta", "models"},
    "training": {"objectives", "beta", "models", "datasets"},
    "diagnostics": {
        "training",
        "objectives",
        "beta",
        "models",
        "posteriors",
        "datasets",
        "metrics",
        "theory",
    },
}
TOP = {"selection", "report", "cli", "recipe", "plots", "__init__", "__main__"}


def unit(path):
    """Name the part of the package that a file belongs to: its folder, or its own name."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path):
    """Return the parts of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {p[1] if len(p) > 1 else "__init__" for p in parts if p[0] == "pyro_bvae"}
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    part, parts = unit(path), imported(path) - {unit(path)} - FREE
    if part in FREE:
        assert parts == set()
    elif part in BELOW:
        assert parts <= BELOW[part]
    else:
        assert part in TOP, f"say where {part} stands"
        above = {"plots": set(BELOW)}.get(part, set(BELOW) | TOP)
        assert parts <= above


def test_the_rule_sees_imports(tmp_path):
    path = tmp_path / "file.py"
    path.write_text("import pyro_bvae\ndef f():\n    from pyro_bvae.training import fit\n")
    assert imported(path) == {"__init__", "training"}
    assert {unit(p) for p in FILES} >= {"types", "beta", "models", "objectives", "networks"}


STATE = """
import random, sys, warnings
import numpy, torch, pyro
import pyro.poutine.util
def state():
    return (
        torch.get_default_dtype(),
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        random.getstate(),
        str(numpy.random.get_state()),
        pyro.poutine.util.is_validation_enabled(),
        pyro.settings.get(),
        dict(pyro.get_param_store()),
        list(pyro.poutine.runtime._PYRO_STACK),
        list(warnings.filters),
        sys.getrecursionlimit(),
    )
before = state()
import pyro_bvae
assert state() == before, [(a, b) for a, b in zip(before, state()) if a != b]
heavy = {"torchvision", "matplotlib", "arviz", "sklearn", "ray"} & set(sys.modules)
assert not heavy, heavy
"""


def test_importing_changes_nothing_and_loads_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", STATE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


BACKEND = """
import matplotlib
matplotlib.use("svg")
parameters = dict(matplotlib.rcParams)
import importlib, pkgutil, pyro_bvae
for module in pkgutil.walk_packages(pyro_bvae.__path__, "pyro_bvae."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert matplotlib.get_backend() == "svg"
assert dict(matplotlib.rcParams) == parameters
"""


def test_no_module_changes_how_matplotlib_draws():
    done = subprocess.run([sys.executable, "-c", BACKEND], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
