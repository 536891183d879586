"""ReCo: references out of images, both factors of its scores, and its files, against the official code."""

import json
import pickle

import numpy as np
import pytest
import torch
from conftest import tensors
from helpers import description, sample
from mmengine.config import Config
from mmseg.registry import MODELS
from PIL import Image
from safetensors.torch import save_file

from mmseg_sclip import paths
from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.methods.reco import DistilledDeiT
from mmseg_sclip.models.methods.reco.cosegmentation import patch_weights, seeds
from mmseg_sclip.models.methods.reco.finding import ReferenceFinder
from mmseg_sclip.models.methods.reco.references import load_references, to_square
from mmseg_sclip.models.needed import needed_weights

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIZES = [(224, 224), (160, 224), (320, 320)]
DEIT = dict(width=64, depth=3, heads=2)


@pytest.fixture(scope='module')
def files(tmp_path_factory, recipe, recipe_peers, mini_state):
    """The released files, small: DeiT, both towers of CLIP, and the references as images in folders."""
    folder, shape = tmp_path_factory.mktemp('reco'), recipe_peers.RECO
    torch.save(dict(model=tensors(recipe_peers.reco_deit_state_dict(0))), folder / 'deit_s_sin_dist.pth')
    model = description(layers=list(shape['resnet']['layers']), width=16, patch_size=None)
    (folder / 'clip.json').write_text(json.dumps(model))
    words = {name: value for name, value in mini_state.items() if not name.startswith('visual.')}
    torch.save({**words, **tensors(recipe_peers.reco_clip_state_dict(0))}, folder / 'clip.pt')
    for name in {*shape['context'], *shape['categories'][2:]}:
        (folder / 'images' / name).mkdir(parents=True)
        for number, image in enumerate(recipe_peers.reco_images(0, name)):
            Image.fromarray(image[..., ::-1]).save(folder / 'images' / name / f'{number}.png')
    return folder


@pytest.fixture
def texts(recipe_peers):
    """The unit vectors that stand for the classes in the goldens."""
    shape = recipe_peers.RECO
    return tensors(recipe_peers.reco_text(0, dict.fromkeys((*shape['context'], *shape['categories']))))


@pytest.fixture
def build(files, recipe_peers, texts, fresh_cache, monkeypatch):
    """`build({'decode_head.references': ...})`: the public config on these files, with the goldens' text."""

    def make(options=None, vocabulary=recipe_peers.RECO['categories']):
        config = Config.fromfile(paths.config_path('_base_/models/reco'))
        config.merge_from_dict(
            {
                'model.clip': dict(model_name=str(files / 'clip.json'), pretrained=str(files / 'clip.pt')),
                'model.companions.encoder': dict(pretrained=str(files / 'deit_s_sin_dist.pth'), **DEIT),
                'model.decode_head': dict(
                    vocabulary=list(vocabulary),
                    references=str(files / 'images'),
                    context=recipe_peers.RECO['context'],
                    image_size=112,
                ),
                **{f'model.{key}': value for key, value in (options or {}).items()},
            }
        )
        model = MODELS.build(config.model).eval()
        encoder = model.decode_head.text_encoder
        monkeypatch.setattr(encoder, 'encode', lambda names, *_: torch.stack([texts[name] for name in names]))
        return model

    return make


@pytest.fixture(scope='module')
def inputs(recipe):
    """`inputs(160, 224)`: the normalised image (3, H, W)."""

    def make(height, width):
        image = torch.from_numpy(recipe.image(height + width, height, width)[..., ::-1].astype(np.float32))
        return ((image - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)

    return make


@torch.no_grad()
def test_references_are_those_of_the_official_code(build, peers, recipe_peers, inputs):
    model = build()
    head = model.decode_head
    (record,) = [model.backbone.record(inputs(64, 64)[None], model.needs).read_by(model.companions)]
    bank = dict(zip(recipe_peers.RECO['categories'], head.encode_references(record), strict=True))
    for name in ('vegetation', 'cat', 'dog', 'train'):
        np.testing.assert_allclose(bank[name], peers[f'reco/ref/{name}'], atol=1e-5)
    np.testing.assert_allclose(bank['sky'], peers['reco/ref/sky.target'], atol=1e-5)
    finder, context = ReferenceFinder(head, load_references(str(head.references)), record), []
    words = head.text_encoder.encode([*head.context, 'cat', 'dog', 'train'])
    for name, text in zip([*head.context, 'cat', 'dog', 'train'], words, strict=True):
        features, dense = finder.look(finder.references.images(name, 4))
        if name == 'cat':
            np.testing.assert_allclose(features[0], peers['reco/encoder_refs/cat'], atol=5e-5)
        weights = patch_weights(features, dense, text, context)
        np.testing.assert_allclose(weights, peers[f'reco/weights/{name}'], atol=1e-5)
        np.testing.assert_allclose(seeds(features, weights), peers[f'reco/seeds/{name}'], atol=5e-5)
        if name in head.context:
            context.append(torch.from_numpy(peers[f'reco/ref/{name}']))
            np.testing.assert_allclose(finder._vector(name, text, context[:-1]), context[-1], atol=1e-5)


@pytest.mark.parametrize('size', SIZES)
@torch.no_grad()
def test_scores_are_those_of_the_official_code(build, peers, inputs, size):
    model, key = build(), f'{size[0]}x{size[1]}'
    tokens = model.encode(inputs(*size)[None])
    np.testing.assert_allclose(tokens.map[0], peers[f'reco/denseclip/{key}'], atol=1e-5)
    seen = tokens.record.companion('encoder').map[0]
    np.testing.assert_allclose(seen[:, ::3, ::3], peers[f'reco/encoder/{key}'], atol=5e-5)
    scores = model.decode_head(tokens)[0]
    np.testing.assert_allclose(scores[:, 7::16, 7::16], peers[f'reco/score/{key}'], atol=1e-5)
    (result,) = model.predict([inputs(*size)], [sample(size)])
    assert (result.pred_sem_seg.data[0].numpy() == peers[f'reco/pred/{key}']).mean() > 0.9998
    model.decode_head.scale = 1e-9  # one half everywhere
    scores = 2 * model.decode_head(tokens)[0]
    np.testing.assert_allclose(scores[:, 7::16, 7::16], peers[f'reco/score_noattention/{key}'], atol=1e-5)


@torch.no_grad()
def bank(model, inputs):
    """The references of a model, by the names of its classes."""
    record = model.backbone.record(inputs(64, 64)[None], model.needs).read_by(model.companions)
    head = model.decode_head
    return dict(zip([subject.phrase for subject in head.subjects], head.encode_references(record), strict=True))


def test_seeds_are_the_patches_that_all_images_have_a_like_of():
    torch.manual_seed(0)
    features, weights = torch.randn(5, 8, 2, 3), torch.rand(5, 2, 3)
    units = torch.nn.functional.normalize(features.flatten(2), dim=1)  # (5, 8, 6)
    columns = units.permute(1, 0, 2).flatten(1) * weights.flatten()
    for official in (False, True):
        for image, seed in enumerate(seeds(features, weights, official)):
            match = units[image].T @ columns  # (6, 30)
            ends = [(2 * j + 1 if official else j + 1) * 6 for j in range(5)]
            score = sum(match[:, 6 * j : ends[j]].amax(dim=1) for j in range(5))
            torch.testing.assert_close(seed, features[image].flatten(1)[:, score.argmax()])
    assert not torch.equal(seeds(features, weights), seeds(features, weights, False))


def test_references_are_found_once(build, inputs, files, tmp_path, monkeypatch):
    first = bank(build(), inputs)
    look, looked = ReferenceFinder.look, []
    monkeypatch.setattr(ReferenceFinder, 'look', lambda self, images: looked.append(len(images)) or look(self, images))
    index = {path.name: [str(file) for file in sorted(path.iterdir())] for path in (files / 'images').iterdir()}
    (tmp_path / 'index.json').write_text(json.dumps(index))
    again = bank(build({'decode_head.references': str(tmp_path / 'index.json')}), inputs)
    assert all(torch.equal(first[name], again[name]) for name in first) and not looked
    index['cat'].reverse()  # the official slices look at the order
    (tmp_path / 'index.json').write_text(json.dumps(index))
    changed = bank(build({'decode_head.references': str(tmp_path / 'index.json')}), inputs)
    assert looked == [4] and all(torch.equal(first[name], changed[name]) == (name != 'cat') for name in first)
    bank(build({'decode_head.official_slices': False}), inputs)
    assert len(looked) == 7  # another setting is another cache


def test_words_change_and_the_background_is_many_classes(build, inputs):
    model = build(vocabulary=['dog', 'train'])
    first = bank(model, inputs)
    other = model.with_vocabulary([['sky', 'vegetation', 'train'], 'cat', 'dog'], background_index=0)
    found = bank(other, inputs)
    assert list(found) == ['sky', 'vegetation', 'train', 'cat', 'dog'] and list(bank(model, inputs)) == [*first]
    assert torch.equal(found['train'], first['train']) and torch.equal(found['dog'], first['dog'])
    (result,) = other.predict([inputs(96, 160)], [sample((48, 80))])
    assert result.pred_sem_seg.data.unique().max() <= 2


@pytest.mark.parametrize('size', [(96, 160), (64, 64)])
def test_a_flat_image_and_windows_that_are_not_square_have_scores(build, inputs, size):
    model = build(
        {
            'test_cfg.keep_scores': True,
            'test_cfg.mode': 'slide',
            'test_cfg.crop_size': (64, 96),
            'test_cfg.stride': (48, 64),
        }
    )
    images = [inputs(*size), torch.full((3, *size), 0.3), inputs(70, 90)]
    results = model.predict(images, [sample((50, 70)) for _ in images])
    for image, result in zip(images, results, strict=True):
        (alone,) = model.predict([image], [sample((50, 70))])
        assert result.seg_logits.data.isfinite().all()
        torch.testing.assert_close(result.seg_logits.data, alone.seg_logits.data, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    'options, words',
    [
        ({'references': 'nowhere'}, 'references names .*nowhere.*not there. Name a folder with a subfolder of images'),
        ({'context': ('tree', 'sea')}, r'fewer than 3 images of 2 classes.*: sea \(0\), bird \(0\)'),
        ({'least_images': 5}, r'fewer than 5 images of \d classes'),
    ],
)
def test_missing_references_are_listed(build, inputs, texts, options, words):
    texts['bird'] = texts['cat']
    model = build({f'decode_head.{key}': value for key, value in options.items()}, vocabulary=['cat', 'bird'])
    with pytest.raises(MissingFileError, match=words):
        bank(model, inputs)


VECTORS = {'Cat': np.arange(64, dtype=np.float32), 'tree': np.ones((1, 64)), 'traffic_light': np.ones(64, np.float16)}


@pytest.mark.parametrize('protocol', [2, 4, 5, 'safetensors', 'torch', 'old torch', 'tensors'])
def test_ready_vectors_are_read_from_every_form(tmp_path, build, inputs, texts, protocol):
    path, values = tmp_path / 'vectors.pkl', {name: torch.from_numpy(value) for name, value in VECTORS.items()}
    if protocol == 'safetensors':
        save_file(values, path := path.with_suffix('.safetensors'))
    elif isinstance(protocol, int) or protocol == 'tensors':
        path.write_bytes(pickle.dumps(*((values,) if protocol == 'tensors' else (VECTORS, protocol))))
    else:
        torch.save(values, path, _use_new_zipfile_serialization=protocol == 'torch')
    texts['traffic light'] = texts['cat']
    found = bank(build({'decode_head.references': str(path)}, ['vegetation', 'cat', 'traffic light']), inputs)
    expected = np.arange(64) / np.linalg.norm(np.arange(64))
    np.testing.assert_allclose(found['cat'], expected, atol=1e-6)
    np.testing.assert_allclose(found['vegetation'], np.full(64, 1 / 8), atol=1e-6)
    with pytest.raises(
        MissingFileError, match='no vectors of 1 classes: dog. It has those of: cat, traffic light, tree'
    ):
        bank(build({'decode_head.references': str(path)}, ['cat', 'dog']), inputs)


class RunsCode:
    def __reduce__(self):
        return (pytest.fail, ('the code of a file was run',))


class TooLong:
    def __reduce__(self):
        return (torch._utils._rebuild_tensor_v2, (torch.ones(4).storage(), 0, (9,), (1,), False, {}))


@pytest.mark.parametrize(
    'content, words',
    [
        (pickle.dumps({'cat': RunsCode()}), 'objects other than arrays, which could run code'),
        (pickle.dumps(VECTORS)[:80], 'is damaged, or holds'),
        (pickle.dumps({'cat': TooLong()}), 'is damaged, or holds'),
        (pickle.dumps([1, 2]), 'must map each class to its vector'),
        (pickle.dumps({'cat': 'a word'}), "no vector of finite numbers for 'cat'"),
        (pickle.dumps({'cat': np.full(4, np.nan)}), "no vector of finite numbers for 'cat'"),
        (pickle.dumps({'cat': np.ones(4), 'dog': np.ones(5)}), r'several lengths \(4, 5\)'),
        (pickle.dumps({'cat': np.array([None, 1])}), 'objects other than arrays'),
    ],
)
def test_bad_vectors_are_refused(tmp_path, content, words):
    (tmp_path / 'vectors.pkl').write_bytes(content)
    with pytest.raises(BadFileError, match=words):
        load_references(str(tmp_path / 'vectors.pkl'))


@pytest.mark.parametrize('content', ['[1]', '{"cat": "a.jpg"}', '{"cat": [1]}', '{'])
def test_bad_indices_are_refused(tmp_path, content):
    (tmp_path / 'index.json').write_text(content)
    with pytest.raises(BadFileError, match='index.json'):
        load_references(str(tmp_path / 'index.json'))


def test_other_references_are_refused(tmp_path, build, inputs):
    (tmp_path / 'index.json').write_text('{"cat": ["none.jpg"]}')
    with pytest.raises(MissingFileError, match=r'1 images that .*index.json names are not there.*none.jpg'):
        load_references(str(tmp_path / 'index.json'))
    with pytest.raises(ConfigError, match='decode_head.references is None, but'):
        bank(build({'decode_head.references': None}), inputs)
    save_file({'cat': torch.ones(5), 'dog': torch.ones(5)}, tmp_path / 'other.safetensors')
    with pytest.raises(ConfigError, match="5 channels, but the features of the companion 'encoder' have 64"):
        bank(build({'decode_head.references': str(tmp_path / 'other.safetensors')}, ['cat', 'dog']), inputs)


@pytest.mark.parametrize('height, width', [(300, 471), (471, 300), (224, 224), (150, 90)])
def test_squares_are_those_of_torchvision(recipe, height, width):
    transforms = pytest.importorskip('torchvision.transforms')
    image = recipe.image(1, height, width)
    official = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224)])(Image.fromarray(image))
    np.testing.assert_array_equal(to_square(image, 224).permute(1, 2, 0), np.asarray(official))


def test_the_demo_paints_references_that_it_is_not_evaluated_on():
    references = load_references(dict(type='PaintedReferences', number=2, size=32))
    assert references.number('sky') == 2 and references.number('cat') == 0
    assert [image.shape for image in references.images('sky', 5)] == [(32, 32, 3)] * 2


@pytest.mark.parametrize(
    'damage, words',
    [
        (lambda state: {**state, 'extra': torch.ones(1)}, 'extra is unknown to the model'),
        (lambda state: {k: v for k, v in state.items() if k != 'dist_token'}, 'dist_token is missing in the file'),
        (lambda state: {**state, 'norm.bias': torch.ones(3)}, 'norm.bias is 3 in the file and 64 in the model'),
        (lambda state: {**state, 'norm.bias': torch.full((64,), torch.nan)}, 'NaN'),
        (lambda state: {'words': 'no tensors'}, 'no state dict of tensors'),
    ],
)
def test_wrong_encoders_are_refused(files, tmp_path, damage, words):
    state = torch.load(files / 'deit_s_sin_dist.pth')['model']
    torch.save(dict(model=damage(state)), tmp_path / 'deit.pth')
    with pytest.raises(BadFileError, match=words) as error:
        DistilledDeiT(str(tmp_path / 'deit.pth'), **DEIT).load()
    assert str(tmp_path / 'deit.pth') in str(error.value)


def test_a_missing_and_a_cut_encoder_are_refused(files, tmp_path, fresh_cache):
    with pytest.raises(MissingFileError, match=r'DeiT-S/16-SIN.*deit_s_sin_dist.pth'):
        DistilledDeiT().load()
    content = (files / 'deit_s_sin_dist.pth').read_bytes()
    (fresh_cache / 'weights').mkdir(parents=True)
    released = fresh_cache / 'weights' / 'deit_s_sin_dist.pth'
    released.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadFileError, match='deit_s_sin_dist.pth'):
        DistilledDeiT(**DEIT).load()
    released.write_bytes(content)
    DistilledDeiT(**DEIT).load()
    assert DistilledDeiT(None, **DEIT).pretrained is None


def test_towers_of_other_kinds_are_refused(build, files, mini_clip):
    with pytest.raises(ConfigError, match='its image tower is not a ResNet. Name one'):
        build({'clip.model_name': mini_clip['model_name']})
    with pytest.raises(ConfigError, match='its image tower is a ResNet'):
        ClipSource(model_name=str(files / 'clip.json'))
    with pytest.raises(ConfigError, match='no residual and no feed-forward part'):
        build({'backbone.decoder.residual': True})


def test_references_are_among_what_a_model_needs(files, tmp_path):
    model = Config.fromfile(paths.config_path('reco_voc20')).model
    assert list(needed_weights(model)) == ['clip', 'encoder', 'references']
    model.decode_head.references = str(files / 'images')
    needed = needed_weights(model)['references']
    before = needed.identity()
    assert needed.find() == files / 'images' and before == needed.identity()
    model.decode_head.references = str(tmp_path)
    assert needed_weights(model)['references'].identity() != before
    assert list(needed_weights(Config.fromfile(paths.config_path('reco_demo')).model)) == ['clip']
