"""What training holds in memory does not depend on how much data there are, or how many steps."""

import json
import multiprocessing

import pytest

from tests.training.frugal import train_in_mode, train_on_more_than_fits


def test_a_memory_map_ten_times_the_memory_allowed_is_trained_on_without_growth(tmp_path):
    """A batch is 16 KiB of pixels and 64 KiB of floats: 180 kept ones would be 14 MiB."""
    process = multiprocessing.get_context("spawn").Process(
        target=train_on_more_than_fits, args=(tmp_path,)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    found = json.loads((tmp_path / "used.json").read_text())
    assert found["steps"] == 200
    assert found["bytes"] >= 10 * found["limit"]
    assert not found["fits"], "the same data as an array are refused"
    assert found["used"][-1] - found["used"][0] < 2**22


@pytest.mark.parametrize("mode", ["recorded", "compiled"])
def test_steps_that_are_a_graph_hold_no_more_the_longer_they_go_on(mode, tmp_path):
    """200 batches of 64 KiB would be 12.5 MiB, and so would what comes of any one of them."""
    process = multiprocessing.get_context("spawn").Process(
        target=train_in_mode, args=(tmp_path, mode)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    used = json.loads((tmp_path / "used.json").read_text())
    assert len(used) == 15
    assert used[-1] - used[4] < 2**22
