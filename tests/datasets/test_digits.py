import pytest
import torch

from pyro_bvae.datasets import digits


def test_the_digits_are_all_there_and_their_parts_make_the_whole():
    every, train, test = digits(), digits("train"), digits("test")
    assert every.images.shape == (1797, 1, 8, 8)
    assert [len(train.images), len(test.images)] == [1437, 360]
    assert torch.equal(torch.cat([train.images, test.images]), every.images)
    assert torch.equal(torch.cat([train.labels, test.labels]), every.labels)


def test_pixels_are_seventeen_grey_levels_from_zero_to_one():
    images = digits().images
    assert torch.equal(images.unique(), torch.arange(17) / 16)


def test_labels_belong_to_their_images():
    images, labels = digits("train")
    means = torch.stack([images[labels == k].mean(0) for k in range(10)])
    unseen, truth = digits("test")
    nearest = (unseen[:, None] - means).square().sum((2, 3, 4)).argmin(1)
    # Unrelated labels would agree for a tenth of 360; the nearest mean digit is right far oftener.
    assert (nearest == truth).double().mean() > 0.8


def test_another_split_is_refused():
    with pytest.raises(ValueError, match=r"split: expected one of \('all', 'train', 'test'\)"):
        digits("validation")
