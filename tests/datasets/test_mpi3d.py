"""The MPI3D format on small files: stored, compressed, and taken out of the archive."""

import contextlib
import io
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_bvae.datasets import MPI3DFile, mpi3d

SIZES = (2, 1, 2, 1, 3, 2, 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3)).astype(np.uint8)
EXPECTED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).double() / 255
SAVE = {"stored": np.savez, "compressed": np.savez_compressed}


def written(folder, how="stored", **arrays):
    path = folder / f"{how}.npz"
    SAVE[how](path, **(arrays or {"images": PIXELS}))
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    np.save(folder / "images.npy", PIXELS)
    return {**{how: written(folder, how) for how in SAVE}, "alone": folder / "images.npy"}


@pytest.mark.parametrize("how", ["stored", "compressed", "alone"])
def test_images_are_those_of_the_file_in_the_order_of_the_grid(paths, how):
    data = MPI3DFile(paths[how], factor_sizes=SIZES)
    assert torch.equal(data[torch.arange(24)], EXPECTED)
    assert data[torch.arange(24)].is_contiguous()
    assert data.index(torch.tensor([[1, 0, 0, 0, 2, 1, 0]])).tolist() == [12 + 2 * 2 + 1]
    assert data.factor_names[5:] == ("horizontal_axis", "vertical_axis")
    assert isinstance(data._pixels, np.memmap) == (how != "compressed")


def test_published_sizes_come_from_the_number_of_images(monkeypatch, paths):
    assert mpi3d._SIZES[1_036_800] == (6, 6, 2, 3, 3, 40, 40)
    assert mpi3d._SIZES[460_800] == (4, 4, 2, 3, 3, 40, 40)
    monkeypatch.setitem(mpi3d._SIZES, 24, SIZES)
    assert MPI3DFile(paths["stored"]).factor_sizes == SIZES


@pytest.mark.parametrize("how", SAVE)
def test_more_images_than_a_chunk_are_read(monkeypatch, paths, how):
    monkeypatch.setattr(mpi3d, "_CHUNK", 7)
    assert torch.equal(MPI3DFile(paths[how], factor_sizes=SIZES)[23], EXPECTED[23])


@pytest.mark.parametrize("how", SAVE)
@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"imgs": PIXELS}, r"no array 'images' among \['imgs.npy'\]"),
        ({"images": PIXELS.astype(np.int16)}, "images: expected uint8 .* got int16"),
        ({"images": PIXELS[:, :32]}, r"images: expected uint8 \(n, 64, 64, 3\)"),
        ({"images": PIXELS[:0]}, "images: expected uint8"),
        ({"images": np.array([{}], object)}, "images: expected uint8"),
        ({"images": np.asfortranarray(PIXELS)}, "Fortran order"),
        ({"images": PIXELS[:23]}, "factor_sizes: expected 7 sizes of 23 combinations"),
    ],
)
def test_files_that_are_not_mpi3d_are_refused(tmp_path, how, arrays, complaint):
    with pytest.raises(ValueError, match=complaint):
        MPI3DFile(written(tmp_path, how, **arrays), factor_sizes=SIZES)


def test_other_numbers_of_images_need_sizes(paths):
    with pytest.raises(ValueError, match=r"one of \[460800, 1036800\] images, got 24.*factor_size"):
        MPI3DFile(paths["stored"])
    with pytest.raises(ValueError, match="factor_sizes: expected 7 sizes"):
        MPI3DFile(paths["stored"], factor_sizes=(24,))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found no .*nowhere\.npz"):
        MPI3DFile(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("how", SAVE)
def test_an_array_of_another_length_than_its_header_says_is_refused(tmp_path, how):
    stream = io.BytesIO()
    np.save(stream, PIXELS)
    for content in (stream.getvalue()[:-5], stream.getvalue() + b"more"):
        kind = zipfile.ZIP_STORED if how == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(tmp_path / "length.npz", "w", kind) as archive:
            archive.writestr("images.npy", content)
        with pytest.raises(ValueError, match=r"length\.npz: images: expected 24 images"):
            MPI3DFile(tmp_path / "length.npz", factor_sizes=SIZES)


@settings(deadline=None, max_examples=40)
@given(st.data())
@pytest.mark.parametrize("how", ["stored", "compressed", "alone"])
def test_a_file_cut_short_is_refused(paths, tmp_path_factory, how, data):
    content = paths[how].read_bytes()
    path = tmp_path_factory.getbasetemp() / f"cut{paths[how].suffix}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match="cut"):
        MPI3DFile(path, factor_sizes=SIZES)


@settings(deadline=None, max_examples=100)
@given(st.data())
@pytest.mark.parametrize("how", ["stored", "compressed"])
def test_a_damaged_header_is_refused_or_harmless(paths, tmp_path_factory, how, data):
    content = bytearray(paths[how].read_bytes())
    place = data.draw(st.integers(0, 180) | st.integers(len(content) - 180, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        found = MPI3DFile(path, factor_sizes=SIZES)
        assert found[torch.arange(24)].shape == (24, 3, 64, 64)
