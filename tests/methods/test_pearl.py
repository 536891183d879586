"""PEARL: its attention and its propagation against the official outputs, and against their formulas written out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmseg_sclip.models.methods.pearl import propagation as tlp
from mmseg_sclip.models.methods.pearl.attention import centre, newton_schulz

SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']
ATTENTION = 'backbone.decoder.attention'
SETTINGS = {
    'reduced/a008': {},
    'reduced/a03': {f'{ATTENTION}.alpha': 0.3},
    'reduced/nokk': {f'{ATTENTION}.alpha': 0},
    'reduced/svd_a008': {f'{ATTENTION}.solver': 'svd'},
    'full/a008': {'backbone.decoder.residual': True, 'backbone.decoder.ffn': True},
}


@pytest.mark.parametrize('setting', SETTINGS)
def test_tokens(build_method, newer, check_tokens, device, setting):
    model = build_method('pearl', SETTINGS[setting]).to(device)
    check_tokens(model, newer, f'pearl/pa/{setting}', 1.5e-4 if 'svd' in setting else 5e-5)


@torch.no_grad()
def test_rotation_and_rows_of_the_map(build_method, newer, pixels):
    for size in [(224, 224), (336, 336)]:
        b = build_method('pearl').backbone.record(pixels(*size)[None]).block_input(12)
        q, k = centre(b.q, b.k, b.prefix)
        ours = newton_schulz(k.transpose(-1, -2) @ q)[0]
        np.testing.assert_allclose(ours, newer[f'pearl/pa/R/{size[0]}x{size[1]}'], atol=5e-6)
        for name, alpha in (('a008', 0.08), ('a03', 0.3)):
            if size == (224, 224):
                attention = build_method('pearl', {f'{ATTENTION}.alpha': alpha}).backbone.decoder.attention
                rows = attention.weights(b)[0, :, ::28]
                np.testing.assert_allclose(rows, newer[f'pearl/pa/attn_rows/{name}/224x224'], atol=1e-5)
        expected = attention.attend(b)
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(attention.attend(b), expected)


CASES = {
    '96x128/g80': (80, 300, 1),
    '96x128/g224': (224, 300, 2),
    '120x200/g80': (80, 200, 2),
    '187x250/g80': (80, 300, 3),
    '60x80/g80': (80, 200, 2),
    '96x128/unstable': (80, 200, 2),
}


def inputs(pixels, case):
    height, width = map(int, case.split('/')[0].split('x'))
    cosines = np.random.RandomState(17 + height + width).uniform(-0.1, 0.4, (7, height, width)).astype(np.float32)
    return torch.from_numpy(cosines), pixels(height, width, CASES[case][1])


def propagated(model, cosines, image):
    """What the model's refinement makes of cosines of the distinct phrases."""
    (refinement,) = model.refinements
    return refinement.refine(cosines, SimpleNamespace(image=image, head=model.decode_head))


@pytest.mark.parametrize('case', CASES)
def test_propagation(build_method, newer, pixels, device, case):
    grid, _, stride = CASES[case]
    model = build_method('pearl', {'test_cfg.refine': [dict(type='TextLabelPropagation', grid=grid)]}).to(device)
    cosines, image = inputs(pixels, case)
    ours = propagated(model, cosines.to(device), image.to(device))
    assert ours.dtype == torch.float32 and ours.shape == cosines.shape
    theirs = newer[f'pearl/tlp/{case}/out']
    np.testing.assert_allclose(ours.cpu()[:, ::stride, ::stride], theirs, atol=5e-3 if 'unstable' in case else 1e-5)


def test_propagation_in_float64_where_rounding_grows(newer, pixels):
    cosines, image = inputs(pixels, '96x128/unstable')
    bank = torch.from_numpy(newer['text']).double()
    ours = tlp.propagate(cosines.double(), image.double(), bank, torch.ones(7), 80)
    np.testing.assert_allclose(ours[:, ::4, ::4], newer['pearl/tlp/96x128/unstable/out64'], atol=1e-9)


def test_confidence_edges_and_text(build_method, newer, pixels):
    cosines, image = inputs(pixels, '96x128/g80')
    model = build_method('pearl', {'test_cfg.refine': [dict(type='TextLabelPropagation', text=False)]})
    ours = propagated(model, cosines, image)
    np.testing.assert_allclose(ours[:, ::2, ::2], newer['pearl/tlp/96x128/g80/notext'], atol=1e-5)
    agreement = tlp.self_similarity(torch.from_numpy(newer['text']), torch.ones(7))
    np.testing.assert_allclose(agreement, newer['pearl/tlp/S_diag'], atol=1e-6)
    pooled, image = (x.unflatten(2, (64, 2)).mean(3) for x in (cosines, image))  # the case's steps are 1 and 2
    probabilities = pooled.softmax(0)
    across, down = tlp.edge_weights(image, probabilities, agreement)
    key = 'pearl/tlp/96x128/g80/'
    np.testing.assert_allclose(tlp.confidence(probabilities, agreement)[::8], newer[f'{key}c'], atol=1e-6)
    np.testing.assert_allclose(across[::8], newer[f'{key}w_h'], atol=5e-5)
    np.testing.assert_allclose(down[::8], newer[f'{key}w_v'], atol=5e-5)


def naive_propagation(z, image, bank, grid):
    """The formula on every query, pixel by pixel, with the matrix written out; float64, sides that need no pooling."""
    queries, height, width = z.shape
    assert round(height / grid) <= 1 and round(width / grid) <= 1
    p = np.exp(z) / np.exp(z).sum(0)
    s = np.exp(bank @ bank.T / 0.5)
    s = s / s.sum(1, keepdims=True) + 10 * np.eye(queries)
    s = np.diag(s / (s.sum(1, keepdims=True) + 1e-6))
    grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    means = [np.abs(np.diff(grey, axis=axis)).mean() + 1e-6 for axis in (0, 1)]
    matrix = np.zeros((height * width, height * width))
    for y in range(height):
        for x in range(width):
            here = y * width + x
            agree = min(max(sum(s[c] * p[c, y, x] ** 2 for c in range(queries)), 0), 1)
            matrix[here, here] += max(p[:, y, x].max(), 0.05) ** 2 * (1 + agree)
            for axis, (v, u) in enumerate(((y + 1, x), (y, x + 1))):
                if v == height or u == width:
                    continue
                edge = np.exp(-5 * abs(grey[y, x] - grey[v, u]) / means[axis])
                agree = min(max(sum(s[c] * p[c, y, x] * p[c, v, u] for c in range(queries)), 0), 1)
                weight, there = min(max(edge * (1 + agree), 0), 1), v * width + u
                matrix[here, here] += weight
                matrix[there, there] += weight
                matrix[here, there] -= weight
                matrix[there, here] -= weight
    c = np.array([max(v, 0.05) ** 2 for v in p.max(0).ravel()])
    c = c * (1 + np.clip((s[:, None] * p.reshape(queries, -1) ** 2).sum(0), 0, 1))
    f = z.reshape(queries, -1).T.copy()  # (pixels, queries)
    r = c[:, None] * f - matrix @ f
    d = r.copy()
    for _ in range(25):
        q = matrix @ d
        step = (r * r).sum() / ((d * q).sum() + 1e-12)
        f, new = f + step * d, r - step * q
        d = new + (new * new).sum() / ((r * r).sum() + 1e-12) * d
        r = new
    return f.T.reshape(z.shape)


def test_repeated_queries_count_as_often_as_they_stand_there(build_method, pixels):
    """The official code works on all queries; ours on each distinct phrase once."""
    words = [['cat', 'dog'], 'bird', ['dog', 'tree'], ['house', 'dog', 'cat']]
    model = build_method('pearl', vocabulary=words, text=np.eye(5, 64, dtype=np.float32) * 0.8 + 0.05)
    head = model.decode_head
    distinct = torch.rand(5, 9, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = pixels(9, 13)
    ours = propagated(model, distinct, image)
    queries = head.phrase_of_query
    assert queries.tolist() == [0, 1, 2, 1, 3, 4, 1, 0]
    bank = head.text_bank.double().numpy()[queries]
    theirs = naive_propagation(distinct[queries].numpy(), image.double().numpy(), bank, 80)
    np.testing.assert_allclose(ours[queries], theirs, atol=1e-9)
    plain = naive_propagation(distinct.numpy(), image.double().numpy(), head.text_bank.double().numpy(), 80)
    assert np.abs(ours.numpy() - plain).max() > 1e-4  # where the numbers were left out


def test_maps_of_a_repeated_phrase_are_propagated_each(build_method):
    """Heads whose scores are maps have one for each query."""
    options = {'test_cfg.refine': [dict(type='TextLabelPropagation')]}
    model = build_method('cliper', options, ['sky', ['cat', 'bed'], 'bed'], 0)
    bank = model.decode_head.encode_vocabulary(torch.device('cpu'))[[0, 1, 2, 2]]
    scores, image = torch.rand(4, 20, 30), torch.randn(3, 20, 30)
    expected = tlp.propagate(scores, image, bank, torch.ones(4), 80)
    torch.testing.assert_close(propagated(model, scores, image), expected)


def test_words_that_change_between_calls_are_those_of_the_call(build_method, pixels, newer):
    model = build_method('pearl')
    other = model.with_vocabulary(SEVEN[:4])
    other.decode_head.text_bank = torch.from_numpy(newer['text'][:4])
    cosines, image = inputs(pixels, '60x80/g80')
    for each, chosen in ((other, slice(4)), (model, slice(7))):
        expected = tlp.propagate(cosines[chosen], image, each.decode_head.text_bank, torch.ones(chosen.stop), 80)
        assert torch.equal(propagated(each, cosines[chosen], image), expected)


E2E = {
    'whole_tlp': ([SEVEN[:2], *SEVEN[2:]], 0, {'test_cfg.mode': 'whole', 'test_cfg.prob_thd': 0.1}),
    'slide_tlp': (SEVEN, None, {}),
    'slide_pa': (SEVEN, None, {'test_cfg.refine': []}),
}


@pytest.mark.parametrize('case', E2E)
def test_label_maps(build_method, newer, pixels, predict, case):
    vocabulary, background, options = E2E[case]
    labels, scores = predict(build_method('pearl', options, vocabulary, background), pixels(336, 448), (375, 500))
    assert (labels == newer[f'pearl/e2e/{case}/pred']).mean() >= 0.9999
    theirs = newer[f'pearl/e2e/{case}/prob']  # renormalised by the official code
    np.testing.assert_allclose(scores / scores.sum(0), theirs, atol=1e-4)
