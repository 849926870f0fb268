"""Events as TensorBoard itself reads them, and what is said without it."""

import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyro_bvae import fit
from pyro_bvae.training import EarlyStopping, TensorBoard
from tests.training.fixed_noise import pair_and_data
from tests.training.resumable import begin


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_every_record_is_there_by_its_names(tmp_path):
    callback = TensorBoard(tmp_path)
    pair, data = pair_and_data()
    result = fit(pair, data, steps=12, every=4, callbacks=[callback], progress=False)
    events = read(tmp_path)
    names = [name for name in result.history if name not in ("step", "kl_per_latent.z")]
    assert sorted(events.Tags()["scalars"]) == sorted([*names, "kl_per_latent.z/0"])
    for name in names:
        found = [(event.step, event.value) for event in events.Scalars(name)]
        expected = zip([4, 8, 12], result.history[name], strict=True)
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
    kl = [event.value for event in events.Scalars("kl_per_latent.z/0")]
    assert kl == pytest.approx(result.history["kl_per_latent.z"][:, 0], rel=1e-6)
    histogram = events.Histograms("kl_per_latent.z")[-1].histogram_value
    assert (histogram.num, histogram.sum) == (1, pytest.approx(kl[-1], rel=1e-6))


def test_a_resumed_run_hides_what_came_after_its_checkpoint(tmp_path):
    """Broken off at 28 by a callback's error, after records that no checkpoint has."""

    def fail(record):
        if record.step == 28:
            raise RuntimeError

    options = {"steps": 35, "every": 7, "compile": "eager"}
    first = TensorBoard(tmp_path / "events")
    begin(tmp_path / "run", **options | {"steps": 14}, callbacks=[first])
    with pytest.raises(RuntimeError):
        begin(tmp_path / "run", **options, callbacks=[first, fail], resume=True)
    first.close()
    result = begin(
        tmp_path / "run", **options, callbacks=[TensorBoard(tmp_path / "events")], resume=True
    )
    found = read(tmp_path / "events").Scalars("loss")
    assert [event.step for event in found] == [7, 14, 21, 28, 35]
    assert [event.value for event in found] == pytest.approx(result.history["loss"], rel=1e-6)


def test_a_run_that_stops_early_can_be_read_at_once(tmp_path):
    callback = TensorBoard(tmp_path)
    stop = EarlyStopping(patience=1, monitor="loss", margin=1e9)
    fit(*pair_and_data(), steps=50, every=1, callbacks=[callback, stop], progress=False)
    assert [event.step for event in read(tmp_path).Scalars("elbo")] == [1, 2]
    callback.close()


def test_without_tensorboard_the_line_to_type_is_given(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'pyro-bvae\[tensorboard\]'"):
        TensorBoard(tmp_path)
