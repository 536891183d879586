"""The documents: what they name exists, and what they show runs."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from PIL import Image
from torch.nn import functional as F

from mmseg_sclip import apis, paths
from mmseg_sclip.ablation.protocols import common_protocol
from mmseg_sclip.cli import ablate, attention, check, compare, compare_methods, get_flops, main, segment, test, train
from mmseg_sclip.config import load_config
from mmseg_sclip.engine import flops
from mmseg_sclip.engine.loading import build_model
from mmseg_sclip.engine.runner import isolated
from mmseg_sclip.models import Feedback
from mmseg_sclip.models.streams import BlockInput

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / 'examples'
DOCUMENTS = [
    ROOT / 'README.md',
    ROOT / 'README_zh-CN.md',
    ROOT / 'CONTRIBUTING.md',
    *sorted((ROOT / 'docs').glob('*.md')),
]
TOOLS = (ablate, attention, check, compare, compare_methods, get_flops, segment, test, train)
PARSERS = {tool.__name__.rpartition('.')[2]: tool for tool in TOOLS}
BLOCK = re.compile(r'(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$', re.M | re.S)
OF_DOCUMENTS = pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)


def text(document):
    return (ROOT / document).read_text(encoding='utf-8')


def python(document, mark):
    """The one Python block of a document with `mark` in it."""
    (body,) = [block['body'] for block in BLOCK.finditer(text(document)) if mark in block['body']]
    return body


# --- what documents name ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize('document', ['README.md', 'README_zh-CN.md'])
@pytest.mark.parametrize(
    'mark, command',
    [
        ('run', "pip install -e '.[onedl]' && python tools/test.py configs/sclip_demo.py\n"),
        ('test', "pip install -e '.[onedl,test]' && pytest -n 2\n"),
    ],
)
def test_the_commands_of_the_ci_stand_where_it_looks_for_them(document, mark, command):
    assert text(document).count(f'<!-- ci: {mark} -->\n```bash\n{command}```\n') == 1


def anchors(document):
    """What GitHub calls the headings of a document in links."""
    headings = re.findall(r'^#+ (.*)$', document, re.M)
    return {re.sub(r'[^\w\- ]', '', heading).strip().lower().replace(' ', '-') for heading in headings}


@OF_DOCUMENTS
def test_links_lead_somewhere(document):
    for link in re.findall(r'\]\((?!https?:)([^)]+)\)', text(document)):
        path, _, anchor = link.partition('#')
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(text(target)), link


@OF_DOCUMENTS
def test_paths_exist(document):
    named = re.findall(r'(?<![\w./-])((?:tools|configs|examples|tests|mmseg_sclip|docs)/[\w./-]*\w/?)', text(document))
    named += re.findall(r'`((?:segmentors|models)/[\w/]+\.py)`', text(document))
    places = (ROOT, ROOT / 'mmseg_sclip', ROOT / 'mmseg_sclip' / 'models')
    assert not [name for name in named if 'NAME' not in name and not any((at / name).exists() for at in places)]


def test_every_picture_is_shown():
    shown = {Path(name).name for document in DOCUMENTS for name in re.findall(r'!\[[^]]*\]\(([^)]+)\)', text(document))}
    pictures = list((ROOT / 'docs' / 'images').iterdir())
    assert {path.name for path in pictures} == shown
    assert max(path.stat().st_size for path in pictures) < 300_000


@OF_DOCUMENTS
def test_quotes_of_examples_are_exact(document):
    for block in BLOCK.finditer(text(document)):
        if (block['note'] or '').startswith('file: '):
            assert block['body'] == text(block['note'].removeprefix('file: ')), block['note']


def commands(document):
    """(command, arguments) of each call of a tool, in blocks and in running text."""
    content = text(document)
    lines = [
        line for block in BLOCK.finditer(content) if block['language'] == 'bash' for line in block['body'].split('\n')
    ]
    lines += re.findall(r'`((?:python tools/|mmseg-sclip )[^`]*)`', content)
    for line in lines:
        match = re.search(r'(?:python tools/(\w+)\.py|mmseg-sclip ([\w-]+)|tools/dist_(test)\.sh) (.*)', line)
        if match and match[4]:
            words = shlex.split(match[4])
            name = (match[1] or match[2] or match[3]).replace('-', '_')
            yield name, [word for word in words if not (match[3] and word.isdigit())]


@OF_DOCUMENTS
def test_commands_can_be_parsed(document):
    for name, arguments in commands(document):
        if name == 'benchmark':
            sys.path.append(str(ROOT / 'tools'))
            spec = importlib.util.spec_from_file_location('benchmark', ROOT / 'tools' / 'benchmark.py')
            tool = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(tool)
            sys.path.remove(str(ROOT / 'tools'))
        else:
            tool = PARSERS[name]
        tool.build_parser().parse_intermixed_args(arguments)
        for config in (word for word in arguments[:1] if word.startswith(('sclip_', 'configs/'))):
            assert paths.config_path(config.removeprefix('configs/'))


def test_the_flags_of_each_command_are_those_of_its_parser():
    sections = re.split(r'^## ', text('docs/command_line.md'), flags=re.M)
    common = set(re.findall(r'--[\w-]+', ' '.join(re.findall(r'^\| (`--.*?) \|', sections[1], re.M))))
    for section in sections[2:]:
        name = section.partition('\n')[0].replace('-', '_')
        flags = {option for action in PARSERS[name].build_parser()._actions for option in action.option_strings}
        named = set(re.findall(r'--[\w-]+', ' '.join(re.findall(r'^\| (`--.*?) \|', section, re.M))))
        assert named <= flags, name
        if name == 'test':
            assert flags - named - common == {'-h', '--help', '--local-rank'}


def test_published_numbers_are_those_of_the_metafile():
    rows = re.findall(r'`python tools/test.py (configs/\S+)` \| ([\d.]+) \|$', text('README.md'), re.M)
    assert rows == re.findall(r'Config: (\S+).*?mIoU: ([\d.]+)', text('configs/metafile.yml'), re.S)


def test_every_method_has_a_section_and_a_row():
    methods = {path.name for path in (ROOT / 'configs').iterdir() if path.is_dir()} - {'_base_'} | {'sclip'}
    for document in ('README.md', 'docs/methods.md'):
        assert set(re.findall(r'`(\w+)_\*`', text(document))) == methods
    here = re.findall(r'^- \*\*Here:\*\*(.*?)^- ', text('docs/methods.md'), re.M | re.S)
    classes = {
        word for part in here for code in re.findall(r'`([^`]*)`', part) for word in re.findall(r'[A-Z]\w+', code)
    }
    assert len(here) == 14 and not [name for name in classes - {'True', 'False'} if MODELS.get(name) is None]


@pytest.mark.slow
def test_the_commands_of_the_baselines_run(fresh_engine, recipe, mini_clip, tmp_path, monkeypatch):
    """With a tiny SegFormer, tiny images in the layout of ADE20K, and the mini CLIP in place of ViT-B/16."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Config, 'pretty_text', property(lambda config: str(config.to_dict())))  # takes half of the time
    root = Path('data/ade/ADEChallengeData2016')
    for number in (1, 2):
        for part, pixels in (
            ('images', recipe.image(number, 48, 64)),
            ('annotations', np.random.default_rng(number).integers(0, 151, (48, 64), dtype=np.uint8)),
        ):
            (root / part / 'validation').mkdir(parents=True, exist_ok=True)
            name = f'ADE_val_{number:08}.{"jpg" if part == "images" else "png"}'
            Image.fromarray(pixels).save(root / part / 'validation' / name)
    parts = 'backbone=dict(embed_dims=8, num_layers=[1] * 4), decode_head=dict(in_channels=[8, 16, 40, 64])'
    body = python('docs/baselines.md', '_base_')
    Path('segformer_b0.py').write_text(f'{body}model = dict({parts})\n')
    config = load_config('segformer_b0.py')
    checkpoint = config.pop('load_from')
    torch.save(dict(meta={}, state_dict=build_model(config, 'cpu').state_dict()), checkpoint)
    assert f'/{checkpoint}\n' in text('docs/baselines.md')  # the file that is downloaded
    flags = ['--device', 'cpu', '--cfg-options', 'test_dataloader.num_workers=0']
    ran = []
    for name, arguments in commands(ROOT / 'docs' / 'baselines.md'):
        words = [mini_clip['pretrained'] if word == 'ViT-B-16.pt' else word for word in arguments]
        clip = [] if '--pretrained' in words else ['--pretrained', mini_clip['pretrained']]
        clip = ['--model-name', mini_clip['model_name'], *clip] if name != 'test' else []
        with isolated():
            assert main.main([name.replace('_', '-'), *words, *clip, *flags]) == 0
        ran.append(name)
    assert ran == ['test', 'test', 'compare_methods', 'compare_methods', 'compare', 'compare']
    classes = mmengine.load('work_dirs/segformer_b0/result.json')['classes']
    for folder in ('ade20k/own', 'common/common'):
        assert mmengine.load(f'work_dirs/{folder}/segformer_b0/result.json')['classes'] == classes
    assert '- pass 2: segformer_b0, ' in Path('work_dirs/ade20k/methods.md').read_text()
    assert Path('out/comparison.png').is_file() and len(list(Path('pictures').iterdir())) == 2


@pytest.mark.slow
def test_costs_are_those_that_are_counted():
    rows = re.findall(r'^\| `(\w+)` \| ([\d.]+) \| ([\d.]+)', text('docs/methods.md'), re.M)
    assert len(rows) == 16
    for method, window, image in rows:
        config = common_protocol(method, 'voc21')
        cost = flops.count(config, (375, 500))
        assert f'{cost.per_image:.1f}' == image, method
        if config.model.test_cfg.mode == 'slide':
            assert f'{cost.per_window:.2f}' == window, method


def test_data_folders_are_those_of_the_configs():
    tree = python('docs/data.md', '├── VOCdevkit')
    for name in re.findall(r'`python tools/test.py (configs/\S+)`', text('README.md')):
        dataset = Config.fromfile(ROOT / name).test_dataloader.dataset
        assert f'| `{dataset.data_root}` |' in text('docs/data.md')
        leaves = [*dataset.data_prefix.values(), dataset.get('ann_file', '')]
        for part in [*Path(dataset.data_root).parts, *leaves]:
            assert all(word in tree for word in Path(part).parts), (name, part)


# --- Python blocks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def photo(fresh_engine, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(recipe.image(0, 60, 80)).save('photo.jpg')
    return tmp_path


@pytest.mark.parametrize('document', ['README.md', 'README_zh-CN.md', 'docs/own_images.md'])
def test_the_inferencer(photo, mini_clip, monkeypatch, document):
    class Mini(apis.SCLIPInferencer):
        def __init__(self, **kwargs):
            super().__init__(**mini_clip, **kwargs)

    monkeypatch.setattr(apis, 'SCLIPInferencer', Mini)
    names = {}
    exec(python(document, 'import SCLIPInferencer'), names)
    assert names['result']['labels'].shape == (60, 80)
    assert sum(names['result']['coverage']) == pytest.approx(100)
    assert {'photo.png', 'photo_overlay.png', 'summary.json'} <= {path.name for path in (photo / 'out').iterdir()}
    if document == 'docs/own_images.md':
        assert names['spoon'].shape == (60, 80) and names['several'][1]['names'] == ['plate']
        assert len(names['result']['heatmaps']) == len(sum(names['result']['phrases'], []))


@pytest.mark.filterwarnings('ignore:Failed to add .*VisBackend')
def test_the_functions_of_mmsegmentation(photo, mini_clip):
    (photo / 'configs').mkdir()
    (photo / 'configs' / 'sclip_voc21.py').write_text(
        f'_base_ = {str(paths.config_path("sclip_voc21"))!r}\n'
        f"model = dict(clip=dict(**{mini_clip!r}), decode_head=dict(templates='simple'))\n"
    )
    names = {}
    exec(python('docs/mmsegmentation.md', 'inference_model(model'), names)
    assert names['labels'].shape == (60, 80) and Path('photo_classes.jpg').is_file()
    assert names['result'].pred_sem_seg.data.max() < 3
    model = names['model']
    assert model.dataset_meta['classes'] == ['background', 'cat', 'remote control']
    sample = names['result'].new(metainfo=dict(ori_shape=(60, 80)))
    names.update(images=[torch.randn(3, 60, 80)], samples=[sample])
    with torch.no_grad():
        exec(python('docs/mmsegmentation.md', 'model.score('), names)
    assert names['labels'][0].shape == (1, 60, 80) and names['other'].num_classes == 2


def test_the_runner(photo):
    body = python('docs/mmsegmentation.md', 'Runner.from_cfg').replace(
        'metrics =', 'config.test_dataloader.dataset.update(count=2, size=64)\nmetrics ='
    )
    names = {}
    exec(body, names)
    assert set(names['metrics']) == {'aAcc', 'mIoU', 'mAcc'}


def test_the_backbone(mini_clip):
    real = "dict(model_name='ViT-B-16-quickgelu', pretrained='openai')"
    names = {}
    exec(python('docs/mmsegmentation.md', 'backbone(images)').replace(real, repr(mini_clip)), names)
    assert names['features'].shape == (1, 64, 14, 14)


def test_the_script_for_coco(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = Path('data/coco_stuff164k/annotations/val2017')
    folder.mkdir(parents=True)
    # First and last of each kind, both sides of a gap: raw value -> MMSegmentation's train id, COCO-Object's value.
    expected = {0: (0, 1), 10: (10, 11), 12: (11, 12), 24: (23, 24), 26: (24, 25), 89: (79, 80)}
    expected |= {91: (80, 0), 92: (81, 0), 181: (170, 0), 255: (255, 0)}
    Image.fromarray(np.array([list(expected)], np.uint8)).save(folder / '000000000139.png')
    for _ in range(2):  # a second run must not convert its own output
        exec(python('docs/data.md', "_instanceTrainIds.png')"), {})
    assert len(list(folder.iterdir())) == 3
    for column, suffix in enumerate(('labelTrainIds', 'instanceTrainIds')):
        labels = np.array(Image.open(folder / f'000000000139_{suffix}.png'))[0]
        assert labels.tolist() == [values[column] for values in expected.values()]


def test_the_config_reference(mini_clip):
    names = {}
    exec(python('docs/config.md', 'clip=dict(\n'), names)
    leaf = Config.fromfile(paths.config_path('sclip_voc21')).model.to_dict()
    leaf['decode_head']['class_names'] = None
    assert names['model'] == leaf
    model = MODELS.build({**leaf, 'clip': mini_clip})
    rows = re.findall(r'^\| `test_cfg\.(\w+)`', text('docs/config.md'), re.M)
    assert {*leaf['test_cfg'], *rows} == set(dict(model.test_cfg))


# --- examples --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def examples():
    """The example modules, imported as a config imports them."""
    folders = [str(path) for path in EXAMPLES.iterdir()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'path', folders + sys.path)
        for path in EXAMPLES.rglob('*.py'):
            if not path.stem.startswith('sclip_'):
                __import__(path.stem)


@pytest.mark.parametrize('path', sorted(EXAMPLES.rglob('sclip_demo_*.py')), ids=lambda path: path.stem)
def test_the_configs_of_the_examples_run(run_main, tmp_path, path):
    few = ['--cfg-options', 'test_dataloader.dataset.count=3', 'test_dataloader.num_workers=0']
    result = run_main(path, '--device', 'cpu', *few)
    assert result.code == 0, result.err
    assert mmengine.load(tmp_path / 'work' / 'result.json')['images'] == 3


def test_the_own_dataset_runs(run_main, mini_clip, recipe, tmp_path):
    data = tmp_path / 'my kitchen'
    for number, name in enumerate(('cup.JPG', 'shelf/plate.png')):
        for folder in ('images', 'labels'):
            (data / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(recipe.image(number, 60, 80)).save(data / 'images' / name)
        labels = np.random.RandomState(number).choice([0, 1, 2, 3, 255], (60, 80)).astype(np.uint8)
        Image.fromarray(labels).save((data / 'labels' / name).with_suffix('.png'))
    clip = ['--model-name', mini_clip['model_name'], '--pretrained', mini_clip['pretrained']]
    config = EXAMPLES / 'own_dataset' / 'sclip_kitchen.py'
    result = run_main(config, '--data-root', data, '--out', 'out', '--device', 'cpu', *clip)
    assert result.code == 0, result.err
    classes = mmengine.load(tmp_path / 'work' / 'result.json')['classes']
    assert [entry['name'] for entry in classes] == ['background', 'cup', 'plate', 'spoon']
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'cup.png', 'plate.png'}


def segmentor(clip, decoder=None, head='TextSimilarityHead', **test_cfg):
    return MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=clip,
            backbone=dict(type='CLIPVisionTransformer', decoder=decoder),
            decode_head=dict(type=head, vocabulary=['cat', 'dog', 'tree'], templates='simple'),
            test_cfg=dict(crop_size=(64, 64), stride=(32, 32), **test_cfg),
        )
    ).eval()


@pytest.mark.parametrize(
    'name', ['MyCosineAttention', 'MyEarlierAttention', 'MyNeighbourAttention', 'MyTwoPassAttention']
)
@torch.no_grad()
def test_attentions_keep_the_contract(examples, mini_clip, name):
    model = segmentor(mini_clip, dict(type='LastBlock', attention=dict(type=name)))
    memory = model.backbone.record(torch.randn(2, 3, 48, 64))
    attention = model.backbone.decoder.attention
    for feedback in [None, Feedback(torch.randn(2, 3, *memory.grid))][: attention.passes]:
        b = model.backbone.tower.block_input(3, memory, feedback)
        torch.testing.assert_close(attention.attend(b), attention.weights(b) @ b.v)
    assert model.predict([torch.randn(3, 48, 64)])[0].pred_sem_seg.data.shape == (1, 48, 64)


@pytest.mark.parametrize('bonus, same', [(0.0, True), (3.0, False)])
@torch.no_grad()
def test_the_second_pass_of_the_example(examples, mini_clip, bonus, same):
    images = torch.randn(1, 3, 64, 64)
    twice, once = (
        segmentor(mini_clip, dict(type='LastBlock', attention=attention))._forward(images)
        for attention in (dict(type='MyTwoPassAttention', bonus=bonus), dict(type='CorrelativeSelfAttention'))
    )
    assert torch.allclose(twice, once, atol=1e-6) == same


def test_the_prior_of_the_example(examples):
    b = BlockInput(*torch.zeros(3, 1, 1, 7, 4), torch.zeros(1, 7, 4), (2, 3), 1, 0.5)
    prior = MODELS.build(dict(type='MyNeighbourAttention', sigma=2.0)).prior(b)
    assert prior.shape == (7, 7) and not prior[0].any() and not prior[:, 0].any()
    # Patch 0 is at (0, 0), patch 5 at (1, 2): a squared distance of 5.
    torch.testing.assert_close(prior[1, 6], torch.tensor(-5 / 8).exp())


@torch.no_grad()
def test_the_decoders_of_the_examples(examples, mini_clip):
    images = torch.randn(1, 3, 64, 64)
    early = segmentor(mini_clip, dict(type='MyEarlyExit', block=-2))
    tower, ran = early.backbone.tower, []
    for number in (2, 3):
        tower.block(number).register_forward_hook(lambda *_, number=number: ran.append(number))
    assert early.extract_feat(images)[0].shape == (1, 64, 4, 4) and ran == [2]
    v = dict(type='CorrelativeSelfAttention', projections='v')
    two = segmentor(mini_clip, dict(type='MyTwoStreams', attention=v, blocks=2)).encode(images)
    memory = tower.record(images, {1, 2})
    x = memory[1]
    for number in (2, 3):
        values = tower.block_input(number, memory).v
        heads = (values @ values.mT * values.shape[-1] ** -0.5).softmax(-1) @ values
        x = x + tower.block(number).attn.out_proj(heads.transpose(1, 2).flatten(2))
    torch.testing.assert_close(two.patches, tower.project(x)[:, 1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_head_and_the_refinement_of_the_examples(examples, mini_clip):
    images = torch.randn(1, 3, 64, 64)
    centred, plain = segmentor(mini_clip, head='MyCentredHead'), segmentor(mini_clip)
    cosines = plain._forward(images)
    torch.testing.assert_close(centred._forward(images), cosines - cosines.mean(1, keepdim=True))
    smoothing = MODELS.build(dict(type='MySmoothing', radius=1))
    scores = torch.rand(2, 5, 6)
    padded = F.pad(scores, [1] * 4)
    naive = sum(padded[:, dy : dy + 5, dx : dx + 6] for dy in range(3) for dx in range(3)) / 9
    torch.testing.assert_close(smoothing(scores, images)[:, 1:-1, 1:-1], naive[:, 1:-1, 1:-1])
    (sample,) = segmentor(mini_clip, refine=[dict(type='MySmoothing')]).predict(images)
    assert sample.pred_sem_seg.data.shape == (1, 64, 64)


def test_the_tools_of_the_readme_run(fresh_engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo = [command for document in DOCUMENTS for command in commands(document) if '--demo' in command[1]]
    assert {name for name, _ in demo} == {'attention', 'segment'}
    for name, arguments in dict(demo).items():
        assert main.main([name, *arguments]) == 0
