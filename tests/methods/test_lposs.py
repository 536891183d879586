"""LPOSS and LPOSS+: every official output from the public model parts on, and both graphs against naive ones."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import tensors
from helpers import WORDS, sample
from mmcv.transforms import Pad

from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.companions import Features
from mmseg_sclip.models.image.postprocess import best_of_class
from mmseg_sclip.models.image.scores import whole
from mmseg_sclip.models.image.windows import WindowGrid
from mmseg_sclip.models.methods.lposs import PatchPropagation, PixelPropagation, SynonymMaximum
from mmseg_sclip.models.methods.lposs.colours import rgb_to_lab
from mmseg_sclip.models.methods.lposs.patches import Graph, patch_centres
from mmseg_sclip.models.methods.lposs.pixels import PixelGraph
from mmseg_sclip.models.methods.lposs.solver import propagate
from mmseg_sclip.models.record import Record, Source
from mmseg_sclip.models.tokens import Tokens

SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']
SYNONYMS = [['sky', 'wall', 'tree', 'wood', 'grass', 'road'], 'cat', 'dog', 'bird', 'house', 'car']  # 11 of 6 classes
WHOLE = {'test_cfg.mode': 'whole'}
K100 = {**WHOLE, 'propagation.neighbours': 100}
MERGED = [dict(type='SynonymMaximum')]
# Of each key: the model part, the size of the input, the words, and changes of the model part.
CASES = {
    'lposs/slide/336x448': ('lposs', (336, 448), SEVEN, {}),
    'lposs/slide/300x437': ('lposs', (300, 437), SEVEN, {}),
    'lposs/whole/336x336': ('lposs', (336, 336), SEVEN, WHOLE),
    'lposs/whole/330x340': ('lposs', (330, 340), SEVEN, WHOLE),
    'lposs/k100/224x224': ('lposs', (224, 224), SEVEN, K100),
    'lposs/k100_quickgelu/224x224': ('lposs', (224, 224), SEVEN, K100),
    'lposs/bg1/375x500': ('lposs', (336, 448), SYNONYMS, {'test_cfg.refine': MERGED}),
    'lposs_plus/slide/224x400': ('lposs_plus', (224, 400), SEVEN, {}),
    'lposs_plus/bg1/224x400': (
        'lposs_plus',
        (224, 400),
        SYNONYMS,
        {'test_cfg.refine': [dict(type='PixelPropagation'), *MERGED]},
    ),
}


@pytest.fixture(scope='module')
def dino(recipe_extra, tmp_path_factory):
    """A companion in place of DINO ViT-B/16, in a file with DINO's names."""
    file = tmp_path_factory.mktemp('dino') / 'dino_vitbase16_pretrain.pth'
    torch.save(tensors(recipe_extra.dino_state_dict(0, 16)), file)
    return {'pretrained': str(file), 'model_args': dict(embed_dim=128, depth=3, num_heads=2)}


@pytest.fixture(scope='module')
def sources(deep_clip):
    """The towers of the goldens: those of LPOSS run with plain GELU."""
    return {name: ClipSource(**deep_clip, activation=name) for name in ('gelu', 'quick_gelu')}


@pytest.fixture
def build_lposs(build_method, dino, sources):
    """`build_lposs(part, words, text, options, activation='gelu')`."""

    def build(part, words, text, options=None, activation='gelu'):
        options = {**{f'companions.dino.{key}': value for key, value in dino.items()}, **(options or {})}
        background = 0 if words == SYNONYMS else None
        return build_method(part, options, words, background, text, clip=sources[activation])

    return build


def picture(recipe, key, size):
    """The image (H, W, 3), BGR, uint8, as the pipeline gives it; of odd sides with black at the bottom and right."""
    if key == 'lposs/bg1/375x500':
        return cv2.resize(recipe.image(375, 375, 500), size[::-1])
    image = recipe.image(sum(size), *size)
    step = Pad(size_divisor=16, pad_val=0)  # as in the comment of the model part
    return step(dict(img=image))['img'] if 'whole' in key else image


def watched(part, method, seen):
    """Keep what a method of a part is given and gives."""
    inner = getattr(part, method)

    def outer(*given):
        result = inner(*given)
        seen[method] = (*given, result)
        return result

    setattr(part, method, outer)


def rows(maps):
    """(windows, P, h, w) to (patches of all windows, P)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


@pytest.mark.parametrize('key', CASES)
@torch.no_grad()
def test_official_outputs(build_lposs, recipe, extra, device, key):
    part, size, words, options = CASES[key]
    golden = {name.removeprefix(f'{key}/'): extra[name] for name in extra.files if name.startswith(f'{key}/')}
    text = extra['text/bg1_gelu' if words == SYNONYMS else 'text/lposs']
    model = build_lposs(part, words, text, options, 'quick_gelu' if 'quickgelu' in key else 'gelu').to(device)
    seen = {}
    for method in ('forward', 'graph'):
        watched(model.propagation, method, seen)
    original = sample(golden['pred'].shape)
    pixels = torch.from_numpy(picture(recipe, key, size).copy()).permute(2, 0, 1).to(device)
    (image,) = model.data_preprocessor(dict(inputs=[pixels]))['inputs']
    (scores,) = model.score([image], [original])

    y, tokens, lp = seen['forward']
    features, _, graph = seen['graph']
    dense = graph.normalised().times(torch.eye(len(features), device=device))
    stored = dict(
        Y=rows(y),
        dino=features[golden['rows']],
        clip=torch.nn.functional.normalize(tokens.patches.flatten(0, 1)[golden['rows']], dim=1),
    )
    near = {name: (value, 5e-6) for name, value in stored.items()}
    near['lp'] = (rows(lp), 5e-5)
    near['degree'] = (graph.degree, 2e-5 * golden.get('degree', np.ones(1)).max())
    near['graph'] = (dense[golden.get('graph_rows', [0])], 2e-5)
    maps = best_of_class(whole(model.refine_cosines(scores, image, original)), model.decode_head.vocabulary.sizes)
    near['scores'] = (maps[:, 7::16, 7::16], 5e-5 * (golden['scores'].max() if 'plus' in key else 1))
    if 'pixel_degree' in golden:
        lab = rgb_to_lab(pixels.flip(0) / 255)
        degree = PixelGraph(lab, 6, 0.01).log_degree.exp().flatten()[::37]
        near['pixel_degree'] = (degree, 2e-5 * golden['pixel_degree'].max())
    for name in golden.keys() - {'rows', 'graph_rows', 'pred'}:
        value, tolerance = near[name]
        np.testing.assert_allclose(value.cpu(), golden[name], atol=tolerance, rtol=0, err_msg=name)
    labels = model.label(scores, image, original).pred_sem_seg.data[0]
    assert (labels.cpu().numpy() == golden['pred']).mean() >= 0.999


def test_official_outputs_of_the_pixel_step(recipe, extra, device):
    golden = {key.rpartition('/')[2]: extra[key] for key in extra.files if key.startswith('lposs_plus/pixels')}
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in ((99.0, 120, 9), (50.0, 70, 80)))
    rgb = torch.from_numpy(recipe.image(140, 60, 80)[..., ::-1].copy()).permute(2, 0, 1).to(device)
    view = SimpleNamespace(image=(rgb - mean) / std, preprocessor=SimpleNamespace(mean=mean, std=std))
    scores = torch.from_numpy(np.random.RandomState(5).uniform(-1, 1, (4800, 7)).astype(np.float32))
    scores = scores.T.view(7, 60, 80).to(device)
    before = scores.clone()
    refined = PixelPropagation().refine(scores, view).flatten(1).T.cpu()
    np.testing.assert_allclose(refined, golden['lp'], atol=5e-5 * golden['lp'].max(), rtol=0)
    graph = PixelGraph(rgb_to_lab(rgb / 255), 6, 0.01)
    degree = graph.log_degree.exp().flatten().cpu()
    np.testing.assert_allclose(degree, golden['degree'], atol=2e-5 * golden['degree'].max(), rtol=0)
    chosen = torch.zeros(4800, len(golden['graph_rows']), device=device)
    chosen[golden['graph_rows'], range(len(golden['graph_rows']))] = 1  # the matrix is symmetric
    np.testing.assert_allclose(graph.times(chosen).T.cpu(), golden['graph'], atol=1e-6)
    assert torch.equal(scores, before)
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(PixelPropagation().refine(scores, view).flatten(1).T.cpu(), refined)


def naive_graph(features, centres, neighbours, sharpness, decay):
    """W (n, n) before it is normalised, entry by entry."""
    w = np.zeros((len(features), len(features)))
    for i, cosines in enumerate(features @ features.T):
        for j in np.argsort(-cosines)[:neighbours]:
            weight = max(cosines[j], 0) ** sharpness * np.exp(-decay * np.linalg.norm(centres[i] - centres[j]))
            w[i, j] += weight
            w[j, i] += weight
    np.fill_diagonal(w, 0)
    return w


@pytest.mark.parametrize('neighbours', [1, 5, 400])  # itself alone, some, and all
def test_the_graph_of_patches_entry_by_entry(neighbours):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 3))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    centres = rng.uniform(0, 99, (40, 2))
    w = naive_graph(features, centres, neighbours, 2, 0.05)
    part = PatchPropagation(neighbours=neighbours, sharpness=2, decay=0.05)
    graph = part.graph(torch.from_numpy(features), torch.from_numpy(centres).float())
    dense = lambda graph: graph.times(torch.eye(40)).numpy()  # noqa: E731
    np.testing.assert_allclose(dense(graph), w, atol=1e-6)
    degree = w.sum(axis=1)
    scale = np.divide(1, np.sqrt(degree), where=degree > 0, out=np.zeros(40))
    np.testing.assert_allclose(dense(graph.normalised()), scale[:, None] * w * scale, atol=1e-6)


def test_patches_lie_where_their_windows_lie():
    places = WindowGrid.cut(40, 56, (32, 32), (16, 16)).places(0)
    centres = patch_centres(places, (2, 4)).view(2, 3, 2, 4, 2)
    assert centres[1, 2, 0, 0].tolist() == [16, 28]  # the last window starts at (8, 24)
    assert centres[0, 1, 1, 3].tolist() == [24, 44]
    padded = WindowGrid.cut(40, 56, (64, 64), (64, 64), 32).places(0)  # to 64 x 64: 12 rows and 4 columns in front
    assert patch_centres(padded, (2, 2))[0].tolist() == [4, 12]


def test_ten_steps_of_conjugate_gradient_column_by_column():
    rng = np.random.default_rng(0)
    w = rng.uniform(size=(30, 30)) ** 8
    w = w + w.T
    scale = w.sum(axis=1) ** -0.5
    matrix = np.eye(30) - 0.95 * scale[:, None] * w * scale
    y = np.concatenate([rng.standard_normal((30, 3)), np.zeros((30, 1)), np.linalg.eigh(matrix)[1][:, :1]], axis=1)
    expected = np.zeros_like(y)
    for column in range(5):
        b = y[:, column]
        x, r, d = np.zeros(30), b.copy(), b.copy()
        for _ in range(10):
            if np.linalg.norm(r) <= 1e-6 * np.linalg.norm(b):  # the zeros at once, the eigenvector after one step
                break
            step = r @ r / (d @ matrix @ d)
            x, new = x + step * d, r - step * matrix @ d
            d, r = new + (new @ new) / (r @ r) * d, new
        expected[:, column] = x
    found = propagate(lambda v: torch.from_numpy((np.eye(30) - matrix) / 0.95) @ v, torch.from_numpy(y))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.abs(expected[:, :3] - np.linalg.solve(matrix, y[:, :3])).max() > 1e-6  # it has not converged


def naive_pixels(lab, radius, tau):
    """The normalised matrix of the pixels (H * W, H * W), entry by entry, in float64."""
    _, height, width = lab.shape
    w = np.zeros((height, width, height, width))
    for y, x, v, u in np.ndindex(w.shape):
        if (y, x) != (v, u) and max(abs(y - v), abs(x - u)) <= radius:
            w[y, x, v, u] = np.exp(-np.linalg.norm(lab[:, y, x] - lab[:, v, u]) / tau)
    w = w.reshape(height * width, -1)
    scale = w.sum(axis=1) ** -0.5 if w.any() else np.zeros(len(w))
    return scale[:, None] * w * scale


@pytest.mark.parametrize('size', [(1, 1), (2, 9), (9, 7)])
def test_the_graph_of_pixels_entry_by_entry_and_band_by_band(monkeypatch, size):
    monkeypatch.setattr('mmseg_sclip.models.methods.lposs.pixels._BAND_CPU', 20)
    lab = np.random.default_rng(0).uniform(-1, 1, (3, *size))
    lab[:, 0, 0] += 2  # unlike all others: its weights are 0 in float32
    graph = PixelGraph(torch.from_numpy(lab).float(), 3, 0.02)
    ours = graph.times(torch.eye(size[0] * size[1]))
    np.testing.assert_allclose(ours, naive_pixels(lab.astype(np.float32).astype(float), 3, 0.02), atol=5e-5)
    flat = PixelGraph(torch.full((3, *size), 0.5), 3, 0.02)
    assert torch.equal(flat.log_degree, flat.log_degree.clamp(max=np.log(48.1))) and flat.weights.isfinite().all()


def test_known_colours_in_lab():
    rgb = torch.tensor([[255, 0, 0], [0, 0, 0], [255, 255, 255], [3, 3, 3]]).T.view(3, 1, 4) / 255
    lab = torch.tensor([[53.24, 80.09, 67.20], [0, 0, 0], [100, 0, 0], [0.82, 0, 0]]) / torch.tensor([100, 128, 128.0])
    torch.testing.assert_close(rgb_to_lab(rgb).view(3, 4).T, lab, atol=2e-4, rtol=0)


def scored(model, images, sizes):
    with torch.no_grad():
        return [whole(scores) for scores in model.score(images, [sample(size) for size in sizes])]


@pytest.mark.parametrize('part', ['lposs', 'lposs_plus'])
def test_flat_images_give_numbers_and_others_make_no_difference(build_lposs, extra, pixels, part):
    model = build_lposs(part, SEVEN, extra['text/lposs'])
    sizes = [(64, 80), (224, 240), (40, 250)]
    images = [torch.zeros(3, *sizes[0]), *(pixels(*size) for size in sizes[1:])]
    samples = [sample(size) for size in sizes]
    with torch.no_grad():
        together = model.predict(images, samples)
        for image, size, found in zip(images, sizes, together, strict=True):
            (alone,) = model.predict([image], [sample(size)])
            assert torch.equal(alone.pred_sem_seg.data, found.pred_sem_seg.data)
    for scores, size in zip(scored(model, images, sizes), sizes, strict=True):
        assert scores.shape == (7, *size) and scores.isfinite().all()


class Halves:
    """A companion that sees two sides of each window, on a finer grid than CLIP's."""

    def __call__(self, record):
        values = torch.zeros(len(record.images), 2, 4, 8)
        values[:, 0, :, :4] = values[:, 1, :, 4:] = 1
        return Features(values, values=values)


@torch.no_grad()
def test_scores_stay_among_patches_that_are_alike_on_the_grid_of_the_companion():
    tower = SimpleNamespace(prefix=1, own_precision=lambda device: torch.no_grad())
    images = torch.zeros(2, 3, 32, 64)
    record = Record(
        tower,
        images,
        (2, 4),
        {},
        WindowGrid.cut(32, 96, (32, 64), (32, 32)).places(0),
        [Source(torch.zeros(3, 32, 96), {})],
    ).read_by({'other': Halves()})
    record.once = lambda part: part(record)
    scores = torch.zeros(2, 3, 2, 4)
    scores[0, 0, :, :2], scores[1, 1, :, 2:] = 1, 1
    part = PatchPropagation(companion='other')
    assert part.companions == {'other'}
    spread = part(scores, Tokens(torch.zeros(2, 8, 5), None, (2, 4), record=record))
    assert spread.shape == (2, 3, 4, 8) and (spread[:, 2] == 0).all()
    assert (spread[:, 0, :, :4] > 0.1).all() and (spread[:, 1, :, 4:] > 0.1).all()
    # Bilinear resizing takes a little over the edge before that.
    assert spread[:, 0, :, 4:].max() < 0.5 * spread[:, 0, :, :4].min()


def test_synonyms_get_the_largest_score_but_a_phrase_of_two_classes_keeps_its_own(build_method):
    model = build_method(
        'lposs', {'companions.dino': dict(_delete_=True, type='FilterBank')}, [['sky', 'bed', 'wall'], 'cat', 'bed'], 0
    )
    scores = torch.randn(4, 5, 6)
    sky, bed, wall, cat = scores
    merged = SynonymMaximum().refine(scores, SimpleNamespace(head=model.decode_head))
    largest = torch.stack([sky, bed, wall]).amax(dim=0)
    assert torch.equal(merged, torch.stack([largest, bed, largest, cat]))
    single = model.with_vocabulary(WORDS[1:])
    assert SynonymMaximum().refine(scores[:2], SimpleNamespace(head=single.decode_head)) is not None


def test_ties_both_ways_count_twice():
    graph = Graph.undirected(torch.tensor([[1], [0], [0]], dtype=torch.int32), torch.tensor([[1.0], [2], [4]]))
    assert graph.times(torch.eye(3)).tolist() == [[0, 3, 4], [3, 0, 0], [4, 0, 0]]
    assert graph.degree.tolist() == [7, 3, 4]
