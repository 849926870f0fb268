"""The published dSprites format, on small files: the same arrays, types and pickled metadata."""

import contextlib
import io
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_bvae.datasets import DSpritesFile, Sprites

SIZES = (1, 3, 2, 3, 2, 2)


class NeverUnpickled:
    """Unpickling this raises, as running code from a file should."""

    def __reduce__(self):
        return (eval, ("1 / 0",))


def arrays():
    """A small dSprites: every shape, two scales, three orientations, the corners of the grid."""
    small = Sprites().subset(scale=[0, 5], orientation=[0, 7, 20], posX=[0, 31], posY=[0, 31])
    every = torch.arange(len(small))
    classes = small.factors(every)
    values = [v[c].double() for v, c in zip(small.factor_values, classes.unbind(1), strict=True)]
    return {
        "metadata": np.array({"author": NeverUnpickled()}, dtype=object),
        "imgs": small[every][:, 0].numpy().astype(np.uint8),
        "latents_classes": classes.numpy(),
        "latents_values": torch.stack(values, 1).numpy(),
    }


def written(folder, **changes):
    path = folder / "dsprites.npz"
    contents = {k: v for k, v in {**arrays(), **changes}.items() if v is not None}
    np.savez_compressed(path, **contents)
    return path


@pytest.fixture(scope="module")
def good_file(tmp_path_factory):
    return written(tmp_path_factory.mktemp("good"))


def test_the_file_holds_the_images_and_factors_that_were_written(good_file):
    data, expected = DSpritesFile(good_file), arrays()
    assert data.factor_sizes == SIZES
    assert data.factor_names == Sprites().factor_names
    assert data.shape == (1, 64, 64)
    every = torch.arange(len(data))
    assert np.array_equal(data[every][:, 0].numpy(), expected["imgs"])
    assert np.array_equal(data.factors(every).numpy(), expected["latents_classes"])
    assert data.factor_values[2].tolist() == pytest.approx([0.5, 1.0])
    assert data[every].dtype == torch.float64


def test_the_file_and_the_rendered_set_are_one_interface(good_file):
    data = DSpritesFile(good_file)
    rendered = Sprites().subset(
        scale=[0, 5], orientation=[0, 7, 20], posX=[0, 31], posY=[0, 31], shape=[1]
    )
    assert torch.equal(data.subset(shape=[1])[torch.arange(24)], rendered[torch.arange(24)])


def test_images_of_any_size_are_read_in_chunks(tmp_path):
    sizes = (1, 3, 6, 10, 8, 4)  # 5760 images: more than one chunk
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (5760, 3, 5)).astype(np.uint8)  # 15 pixels: not whole bytes
    classes = np.indices(sizes).reshape(6, -1).T
    path = written(
        tmp_path, imgs=images, latents_classes=classes, latents_values=classes.astype(float)
    )
    assert np.array_equal(DSpritesFile(path)[torch.arange(5760)][:, 0].numpy(), images)


@pytest.mark.parametrize("name", ["imgs", "latents_classes", "latents_values"])
def test_a_missing_array_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=f"dsprites.npz: no array '{name}'"):
        DSpritesFile(written(tmp_path, **{name: None}))


def _swapped(array, first, second):
    array[[first, second]] = array[[second, first]]
    return array


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (lambda a: {"imgs": a["imgs"].astype(np.int64)}, "imgs: expected uint8 in 3 dim"),
        (lambda a: {"imgs": a["imgs"] * 255}, "imgs: expected zeros and ones, got 255"),
        (lambda a: {"imgs": a["imgs"][:, None]}, "imgs: expected uint8 in 3 dimensions"),
        (lambda a: {"imgs": a["imgs"][:-1]}, "got 72 rows and 71 images"),
        (lambda a: {"imgs": np.asfortranarray(a["imgs"])}, "Fortran order"),
        (lambda a: {"imgs": a["imgs"][:0]}, "none of them empty"),
        (lambda a: {"latents_classes": _swapped(a["latents_classes"], 0, 1)}, "whole grid"),
        (lambda a: {"latents_classes": a["latents_classes"] - 1}, "whole grid"),
        (lambda a: {"latents_classes": a["latents_classes"] * 10**9}, "whole grid"),
        (lambda a: {"latents_classes": a["latents_classes"][:, :5]}, "expected 6 columns"),
        (lambda a: {"latents_classes": a["latents_classes"] * 1.0}, "latents_classes: expected in"),
        (lambda a: {"latents_classes": np.array(["a"], object)}, "allow_pickle=False"),
        (lambda a: {"latents_values": a["latents_values"][:-1]}, r"expected \(72, 6\)"),
        (
            lambda a: {"latents_values": _swapped(a["latents_values"], 0, 71)},
            "one value per class of shape",
        ),
    ],
)
def test_arrays_that_are_not_dsprites_are_refused(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        DSpritesFile(written(tmp_path, **changes(arrays())))


def test_a_grid_whose_images_lack_rows_of_factors_is_refused(tmp_path):
    short = {name: value[:-4] for name, value in arrays().items() if name != "metadata"}
    with pytest.raises(ValueError, match="whole grid"):
        DSpritesFile(written(tmp_path, **short))


def test_images_that_end_early_are_refused(tmp_path, good_file):
    path = tmp_path / "short.npz"
    with zipfile.ZipFile(good_file) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[:-1000] if name == "imgs.npy" else content)
    with pytest.raises(ValueError, match=r"imgs: expected 72 images .* ends earlier"):
        DSpritesFile(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        DSpritesFile(tmp_path / "nowhere.npz")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_file_is_refused_or_harmless(good_file, tmp_path_factory, data):
    content = bytearray(good_file.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        found = DSpritesFile(path)
        assert np.array_equal(found[torch.arange(72)][:, 0].numpy(), arrays()["imgs"])


def test_npy_headers_of_another_version_are_refused(tmp_path, good_file):
    path = tmp_path / "version.npz"
    stream = io.BytesIO()
    np.lib.format.write_array(stream, arrays()["imgs"], version=(3, 0))
    with zipfile.ZipFile(good_file) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, stream.getvalue() if name == "imgs.npy" else old.read(name))
    with pytest.raises(ValueError, match=r"npy format 1\.0 or 2\.0"):
        DSpritesFile(path)
