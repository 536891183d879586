"""PAMR against the official outputs and against its formula written out per pixel."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmseg_sclip.models.refinements import PAMR, pamr

GOLDENS = np.load(Path(__file__).parents[1] / 'data' / 'family_seed0.npz')


def normalised(image):
    mean, std = (122.771, 116.746, 104.094), (68.501, 66.632, 70.323)
    return torch.from_numpy(((image[..., ::-1] - mean) / std).astype(np.float32)).permute(2, 0, 1)


@pytest.mark.parametrize('key, steps, dilations', [('t10_d8-16', 10, (8, 16)), ('t3_d1-2-4', 3, (1, 2, 4))])
def test_official_outputs(recipe, device, key, steps, dilations):
    masks = np.random.RandomState(5).uniform(-1, 1, (6, 60, 80)).astype(np.float32)
    image = normalised(recipe.image(140, 60, 80))
    refined = pamr(image.to(device), torch.from_numpy(masks).to(device), steps, dilations)
    np.testing.assert_allclose(refined.cpu().numpy(), GOLDENS[f'pamr/{key}'], atol=5e-6)


def naive(image, masks, steps, dilations):
    channels, height, width = image.shape

    def at(x, row, col):
        return x[:, min(max(row, 0), height - 1), min(max(col, 0), width - 1)]

    for _ in range(steps):
        new = np.zeros_like(masks)
        for row in range(height):
            for col in range(width):
                stencil = [(row + d * dy, col + d * dx) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
                sigma = np.std([at(image, *place) for place in stencil], axis=0, ddof=1)
                around = [place for place in stencil if place != (row, col)]
                logits = [
                    np.mean(-np.abs(image[:, row, col] - at(image, *place)) / (1e-8 + 0.1 * sigma)) for place in around
                ]
                weights = np.exp(logits - np.max(logits))
                for weight, place in zip(weights / weights.sum(), around, strict=True):
                    new[:, row, col] += weight * at(masks, *place)
        masks = new
    return masks


@pytest.mark.parametrize('dilations', [(1,), (2, 9)])
def test_the_formula_pixel_by_pixel(dilations):
    rng = np.random.default_rng(0)
    image, masks = rng.standard_normal((3, 5, 7)), rng.standard_normal((2, 5, 7))
    refined = pamr(torch.from_numpy(image), torch.from_numpy(masks), 2, dilations)
    np.testing.assert_allclose(refined.numpy(), naive(image, masks, 2, dilations), atol=1e-5)


def test_chunks_change_nothing_and_the_input_stays():
    torch.manual_seed(0)
    image, masks = torch.randn(3, 20, 30), torch.randn(7, 20, 30)
    before = masks.clone()
    whole = pamr(image, masks, 3, (2, 4), chunk=100)
    assert torch.equal(whole, pamr(image, masks, 3, (2, 4), chunk=1))
    assert torch.equal(masks, before)


def test_a_flat_image_is_a_plain_average():
    masks = torch.zeros(1, 5, 5)
    masks[0, 2, 2] = 8
    refined = pamr(torch.full((3, 5, 5), 0.3), masks, 1, (1,))
    assert refined[0, 2, 2] == 0  # the pixel itself has no weight
    torch.testing.assert_close(refined[0, 1:4, 1:4].sum(), torch.tensor(8.0))


def test_scale_and_offset_of_the_image_do_not_matter():
    torch.manual_seed(0)
    image, masks = torch.randn(3, 12, 12), torch.randn(2, 12, 12)
    expected = pamr(image, masks, 2, (1, 2))
    torch.testing.assert_close(pamr(40 * image + 7, masks, 2, (1, 2)), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(pamr(image / 1000, masks, 2, (1, 2)), expected, atol=1e-3, rtol=0)


def test_it_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    image, masks = torch.randn(3, 12, 12), torch.randn(2, 12, 12)
    expected = pamr(image, masks, 2, (1, 2))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(pamr(image, masks, 2, (1, 2)), expected)
    assert pamr(image.half(), masks.half(), 1, (1,)).dtype == torch.float32


def test_the_refinement_has_the_familys_settings():
    torch.manual_seed(0)
    image, cosines = torch.randn(3, 20, 40), torch.randn(2, 20, 40)
    assert PAMR().stage == 'cosines'
    assert torch.equal(PAMR()(cosines, image), pamr(image, cosines, 10, (8, 16)))
    assert torch.equal(PAMR(steps=0)(cosines, image), cosines)
