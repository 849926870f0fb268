"""Processes that were given different settings, data or networks are told so, all of them."""

import pytest

from pyro_bvae.training.settings import check_alike
from tests.training.together import DISAGREEMENTS, ONE_IS_WRONG, disagreeing, one_refused, together


def test_what_processes_disagree_on_is_named_in_all(tmp_path):
    first, second = together(disagreeing, tmp_path)
    assert first == second
    for words, setting in zip(first, DISAGREEMENTS, strict=False):
        [name] = setting
        assert words.startswith(f"processes: expected the same settings in all, but {name}: ")
        assert words.count("process 0") == 1
    assert "seed: process 0 has 0, process 1 1;" in first[0]
    assert "beta: process 0 has {'beta': 1.0}, process 1 {'beta': 2.0};" in first[2]
    *_, length, content, network, fine = first
    assert "data: process 0 has 90, process 1 70;" in length
    assert "but data_content: process 0 has 'float64 [6] and float64 [], sha256" in content
    assert "parameters and buffers in all" in network
    assert "encoder.0.weight: process 0 has 'float64 [8, 6]', process 1 'float64 [9, 6]'" in network
    assert fine == ""


def test_what_one_process_refuses_ends_all(tmp_path):
    """By the error itself where it is raised, and with its words elsewhere; none waits."""
    first, second = together(one_refused, tmp_path)
    assert len(second) == len(ONE_IS_WRONG)
    for words, setting in zip(second, ONE_IS_WRONG, strict=True):
        assert next(iter(setting)) in words
    assert first == [f"OtherProcessError: process 1 failed: {words}" for words in second]


def test_the_first_process_that_differs_is_named():
    check_alike([{"seed": 0}] * 3)
    with pytest.raises(ValueError, match="seed: process 0 has 0, process 2 None; give all of them"):
        check_alike([{"seed": 0}, {"seed": 0}, {}])
