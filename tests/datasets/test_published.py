"""3D Shapes, Cars3D and small NORB, on small files written in their formats."""

import struct
import sys

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from pyro_bvae.datasets import Cars3D, Shapes3DFile, SmallNORB

RNG = np.random.default_rng(0)


def floats(pixels):
    """Bytes `[n, height, width, channels]` as the images they are."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).double() / 255


# --- 3D Shapes ---------------------------------------------------------------------------------

SIZES = (2, 1, 3, 2, 1, 2)
SHAPES = RNG.integers(0, 256, (24, 64, 64, 3)).astype(np.uint8)
VALUES = [[0.0, 0.1], [0.5], [0.0, 0.1, 0.9], [0.75, 1.25], [3.0], [-30.0, 30.0]]
LABELS = np.array(np.meshgrid(*VALUES, indexing="ij")).reshape(6, -1).T.copy()


def shapes_file(folder, *, chunks=(5, 32, 64, 3), **changes):
    path = folder / "3dshapes.h5"
    with h5py.File(path, "w") as file:
        for name, array in {"images": SHAPES, "labels": LABELS, **changes}.items():
            if array is not None:
                packing = {"chunks": chunks, "compression": "gzip"} if name == "images" else {}
                file.create_dataset(name, data=array, **(packing if chunks else {}))
    return path


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("chunks", [(5, 32, 64, 3), (24, 8, 8, 1), None])
def test_shapes_are_those_of_the_file(tmp_path, chunks, in_memory):
    data = Shapes3DFile(shapes_file(tmp_path, chunks=chunks), in_memory=in_memory)
    assert data.factor_sizes == SIZES
    assert data.factor_names[2] == "object_hue"
    assert [v.tolist() for v in data.factor_values] == VALUES
    assert torch.equal(data[torch.arange(24)], floats(SHAPES))
    some = torch.tensor([7, 3, 7, 23, 0])
    assert torch.equal(data[some], floats(SHAPES)[some])
    assert data[torch.arange(0)].shape == (0, 3, 64, 64)
    assert data.intervention(0, "object_hue").tolist() == [0, 4, 8]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"images": None}, r"3dshapes\.h5: no array 'images' among \['labels'\]"),
        ({"labels": None}, "no array 'labels'"),
        ({"images": SHAPES.astype(np.int16)}, "images: expected uint8"),
        ({"images": SHAPES[:, :32]}, r"expected uint8 \('n', 64, 64, 3\), got uint8 \(24, 32"),
        ({"labels": LABELS.astype(np.float32)}, "labels: expected float64"),
        ({"labels": LABELS[:, :5]}, r"expected float64 \('n', 6\)"),
        ({"labels": LABELS[::-1]}, r"3dshapes\.h5: labels: expected the whole grid"),
        ({"labels": LABELS[:-1], "images": SHAPES[:-1]}, "expected the whole grid"),
        ({"images": SHAPES[:-1]}, "got 24 rows and 23 images"),
    ],
)
def test_h5_files_that_are_not_3d_shapes_are_refused(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        Shapes3DFile(shapes_file(tmp_path, **changes))


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_a_cut_h5_file_is_refused(tmp_path, keep):
    path = shapes_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else keep])
    with pytest.raises(ValueError, match=r"3dshapes\.h5: damaged file, fetch it again"):
        Shapes3DFile(path)


def test_a_damaged_chunk_is_refused_when_it_is_read(tmp_path):
    path = shapes_file(tmp_path)
    with h5py.File(path) as file:
        chunk = file["images"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 8 : chunk.byte_offset + 300] = bytes(292)
    path.write_bytes(content)
    data = Shapes3DFile(path)
    assert torch.equal(data[23], floats(SHAPES)[23])
    with pytest.raises(ValueError, match="damaged file"):
        data[0]


def test_without_h5py_the_way_out_is_named(tmp_path, monkeypatch):
    path = shapes_file(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="pip install h5py"):
        Shapes3DFile(path)


# --- Cars3D ------------------------------------------------------------------------------------


def car(number):
    """A car whose pixels are one colour: its number, azimuth and elevation."""
    views = np.zeros((128, 128, 3, 24, 4), np.uint8)
    views[:, :, 0] = number
    views[:, :, 1] = np.arange(24)[:, None]
    views[:, :, 2] = np.arange(4)
    return views


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cars")
    textured = car(7)
    textured[..., 5, 2] = RNG.integers(0, 256, (128, 128, 3))
    for name, views in (("car_002_mesh.mat", textured), ("car_001_mesh.mat", car(3))):
        savemat(folder / name, {"im": views}, do_compression=True)
    (folder / "list.txt").write_text("car_001_mesh\n")
    return folder, textured[..., 5, 2]


def test_cars_are_those_of_the_files(cars):
    folder, texture = cars
    data = Cars3D(folder)
    assert data.factor_sizes == (4, 24, 2)
    assert data.factor_names == ("elevation", "azimuth", "car")
    every = torch.arange(len(data))
    images, rows = data[every], data.factors(every)
    textured = int(data.index(torch.tensor([[2, 5, 1]])))
    expected = torch.stack([torch.tensor([3, 7])[rows[:, 2]], rows[:, 1], rows[:, 0]], 1) / 255
    plain = every != textured
    assert torch.equal(images[plain], expected[plain, :, None, None].expand(-1, -1, 64, 64))
    small = Image.fromarray(texture).resize((64, 64), Image.Resampling.LANCZOS)
    assert torch.equal(images[textured], floats(np.asarray(small)[None])[0])


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"image": car(0)}, r"bad\.mat: no array 'im'"),
        ({"im": car(0).astype(np.int16)}, "im: expected uint8 .* got int16"),
        ({"im": car(0)[:64]}, r"im: expected uint8 \(128, 128, 3, 24, 4\), got uint8 \(64"),
    ],
)
def test_mat_files_that_are_not_cars_are_refused(tmp_path, arrays, complaint):
    savemat(tmp_path / "bad.mat", arrays, do_compression=True)
    with pytest.raises(ValueError, match=complaint):
        Cars3D(tmp_path)


@pytest.mark.parametrize("keep", [0, 60, 1000, -1000])
def test_a_cut_mat_file_is_refused(tmp_path, cars, keep):
    content = (cars[0] / "car_002_mesh.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(content[:keep])
    with pytest.raises(ValueError, match=r"cut\.mat: damaged file, fetch it again"):
        Cars3D(tmp_path)


def test_a_folder_without_cars_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\*\.mat"):
        Cars3D(tmp_path / "nowhere")


# --- small NORB --------------------------------------------------------------------------------

PARTS = {"train": "5x46789x9x18x6x2x96x96-training", "test": "5x01235x9x18x6x2x96x96-testing"}


def matrix(array, magic=None):
    """The binary matrix format: magic number, rank, three sizes or more, the data."""
    magic = magic or {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[array.dtype.name]
    sizes = [*array.shape, 1, 1][: max(3, array.ndim)]
    return struct.pack(f"<{2 + len(sizes)}i", magic, array.ndim, *sizes) + array.tobytes()


def toys(instances, n):
    """Random toys: pairs of images, categories, and (instance, elevation, azimuth, lighting)."""
    columns = [RNG.choice(instances, n), *(RNG.integers(0, k, n) for k in (9, 18, 6))]
    info = np.stack(columns, 1).astype(np.int32)
    info[:, 2] *= 2
    pairs = RNG.integers(0, 256, (n, 2, 96, 96)).astype(np.uint8)
    return {"dat": pairs, "cat": RNG.integers(0, 5, n).astype(np.int32), "info": info}


TOYS = {"train": toys([4, 6, 7, 8, 9], 7), "test": toys([0, 1, 2, 3, 5], 4)}


@pytest.fixture
def norb(tmp_path):
    for split, part in PARTS.items():
        for kind, array in TOYS[split].items():
            (tmp_path / f"smallnorb-{part}-{kind}.mat").write_bytes(matrix(array))
    return tmp_path


@pytest.mark.parametrize(("split", "parts"), [("train", ["train"]), ("all", ["train", "test"])])
def test_toys_are_those_of_the_files(norb, split, parts):
    data = SmallNORB(norb, split=split)
    left = np.concatenate([TOYS[part]["dat"][:, 0] for part in parts])
    small = [
        np.asarray(Image.fromarray(i).resize((64, 64), Image.Resampling.LANCZOS)) for i in left
    ]
    order = torch.randperm(len(left))
    assert torch.equal(data[order], floats(np.stack(small)[..., None])[order])
    info = np.concatenate([TOYS[part]["info"] for part in parts])
    rows = data.factors(torch.arange(len(left))).numpy()
    assert np.array_equal(rows[:, 0], np.concatenate([TOYS[part]["cat"] for part in parts]))
    assert np.array_equal(rows[:, 1:] * [1, 1, 2, 1], info)
    degrees = torch.stack([data.factor_values[k][rows[:, k]] for k in (2, 3)], 1)
    assert np.array_equal(degrees.numpy(), np.stack([30 + 5 * info[:, 1], 10 * info[:, 2]], 1))


def test_a_part_lacks_the_instances_of_the_other(norb):
    data = SmallNORB(norb, split="test")
    assert data.factor_sizes == (5, 10, 9, 18, 6)
    assert set(data.combinations.classes(1).tolist()) <= {0, 1, 2, 3, 5}
    with pytest.raises(ValueError, match="fixing: expected classes that an image has"):
        data.sample_fixing("instance", 1, generator=torch.Generator(), value=4)


def replaced(kind, content):
    def change(folder):
        (folder / f"smallnorb-{PARTS['train']}-{kind}.mat").write_bytes(content)

    return change


INFO = TOYS["train"]["info"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (replaced("dat", b""), r"training-dat\.mat: expected the magic number 0x1e3d4c55"),
        (replaced("dat", matrix(TOYS["train"]["dat"])[:-1]), r"expected 7 rows .* Fetch"),
        (replaced("dat", matrix(TOYS["train"]["dat"]) + b"x"), "expected 7 rows"),
        (replaced("dat", matrix(TOYS["train"]["dat"][:6])), "got 6 with 7 and 7"),
        (replaced("dat", matrix(TOYS["train"]["dat"][:0])), "expected 0 rows"),
        (replaced("dat", matrix(TOYS["train"]["dat"], 0x1E3D4C51)), "got .'0x1e3d4c51'"),
        (replaced("dat", matrix(TOYS["train"]["dat"][..., :64])), r"\(7, 2, 96, 64\)"),
        (replaced("cat", matrix(INFO)), r"training-cat\.mat: expected the magic number"),
        (replaced("cat", matrix(TOYS["train"]["cat"] + 5)), r"below \(5, 10, 9, 18, 6\)"),
        (replaced("info", matrix(INFO - 1000)), r"below \(5, 10, 9, 18, 6\), got"),
        (replaced("info", matrix(INFO + 1)), "even azimuths"),
        (replaced("info", b"\x1f\x8b" + bytes(500)), "expected the magic number 0x1e3d4c54"),
    ],
)
def test_matrices_that_are_not_norb_are_refused(norb, change, complaint):
    change(norb)
    with pytest.raises(ValueError, match=complaint):
        SmallNORB(norb)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 23), st.integers(1, 255))
def test_a_damaged_header_is_refused(tmp_path_factory, place, flip):
    folder = tmp_path_factory.getbasetemp()
    for kind, array in TOYS["test"].items():
        content = bytearray(matrix(array))
        content[place] ^= flip if kind == "dat" else 0
        (folder / f"smallnorb-{PARTS['test']}-{kind}.mat").write_bytes(content)
    with pytest.raises(ValueError, match=r"testing-dat\.mat: expected"):
        SmallNORB(folder, split="test")


def test_missing_norb_files_and_splits_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"training-dat\.mat\. Unpack .*dat\.mat\.gz"):
        SmallNORB(tmp_path)
    with pytest.raises(ValueError, match=r"split: expected one of \('train', 'test', 'all'\)"):
        SmallNORB(tmp_path, split="valid")
