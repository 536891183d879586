"""The documents: what they quote, name and promise is there and runs."""

import ast
import dataclasses
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmseg.registry import MODELS
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mmseg_sclip import paths
from mmseg_sclip.cli import main
from mmseg_sclip.cli.test import build_parser
from mmseg_sclip.models import Attention, BlockInput, Feedback
from mmseg_sclip.models.segmentors.settings import complete_test_cfg
from mmseg_sclip.models.text.vocabulary import shipped_vocabularies

ROOT = Path(__file__).resolve().parents[1]
READMES = ('README.md', 'README_zh-CN.md')
DOCUMENTS = (*READMES, 'CONTRIBUTING.md')
EXAMPLES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'examples').rglob('*')
    if path.is_file() and '__pycache__' not in path.parts
)
BLOCK = re.compile(r'(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$', re.M | re.S)
ATTENTIONS = ('MyCosineAttention', 'MyEarlierAttention', 'MyNeighbourAttention', 'MyTwoPassAttention')
RUN = "pip install -e '.[lite]' && python tools/test.py configs/sclip_demo.py\n"
TEST = "pip install -e '.[lite,test]' && pytest\n"


def text(document):
    return (ROOT / document).read_text(encoding='utf-8')


def blocks(document, language):
    return [block['body'] for block in BLOCK.finditer(text(document)) if block['language'] == language]


def python_block(document, mark):
    (body,) = [body for body in blocks(document, 'python') if mark in body]
    return body


@pytest.fixture
def fresh_engine(monkeypatch, tmp_path):
    """MMEngine without traces of earlier runs, an empty current folder, and a search path that is put back."""

    def forget():
        for logger in MMLogger._instance_dict.values():
            for handler in logger.handlers:
                handler.close()
        for manager in (MMLogger, MessageHub, DefaultScope, Visualizer, SegLocalVisualizer):
            manager._instance_dict.clear()

    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.chdir(tmp_path)
    forget()
    yield
    forget()


@pytest.fixture(scope='module')
def examples():
    """The example modules, imported as a config imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys, 'path', [str(ROOT / 'examples' / name) for name in ('own_attention', 'own_decoder')] + sys.path
        )
        import earlier_attention  # noqa: F401
        import early_exit  # noqa: F401
        import my_attention  # noqa: F401
        import neighbour_attention  # noqa: F401
        import two_pass_attention  # noqa: F401


def test_every_example_is_quoted_and_every_quote_is_exact():
    quoted = set()
    for document in DOCUMENTS:
        for block in BLOCK.finditer(text(document)):
            if (block['note'] or '').startswith('file: '):
                name = block['note'].removeprefix('file: ')
                assert block['body'] == text(name), f'{document} quotes {name} wrongly'
                quoted.add(name)
    assert quoted == set(EXAMPLES)


@pytest.mark.parametrize('document', READMES)
@pytest.mark.parametrize('mark, command', [('run', RUN), ('test', TEST)])
def test_the_commands_of_the_ci_stand_where_it_looks_for_them(document, mark, command):
    assert text(document).count(f'<!-- ci: {mark} -->\n```bash\n{command}```\n') == 1


@pytest.mark.parametrize('document', DOCUMENTS)
def test_paths_and_links_exist(document):
    content = text(document)
    named = re.findall(r'(?<![\w./-])((?:tools|configs|examples|tests|mmseg_sclip|docs)/[\w./-]*\w/?)', content)
    named += re.findall(r'\]\((?!https?:|#)([^)#]+)', content)
    assert named
    assert not [name for name in named if 'NAME' not in name and not (ROOT / name).exists()]


def test_both_readmes_hold_the_same_commands_and_code():
    english, chinese = READMES
    assert blocks(english, 'bash') == blocks(chinese, 'bash')
    english_code, chinese_code = ([ast.dump(ast.parse(body)) for body in blocks(name, 'python')] for name in READMES)
    assert english_code == chinese_code  # comments differ
    assert [block['note'] for block in BLOCK.finditer(text(english))] == [
        block['note'] for block in BLOCK.finditer(text(chinese))
    ]
    assert text(english).count('\n## ') == text(chinese).count('\n## ')
    for number in re.findall(r'\d+\.\d\d\b', text(english)):
        assert number in text(chinese)


@pytest.mark.parametrize('document', READMES)
def test_commands_name_flags_that_exist(document):
    parser = build_parser()
    flags = {option for action in parser._actions for option in action.option_strings}
    commands = [line for body in blocks(document, 'bash') for line in body.splitlines() if 'tools/test.py' in line]
    for command in commands:
        arguments = shlex.split(command.partition('tools/test.py ')[2])
        assert {argument for argument in arguments if argument.startswith('--')} <= flags
    rows = ' '.join(re.findall(r'^\| (`--.*?) \|', text(document), re.M))
    assert set(re.findall(r'--[\w-]+', rows)) == flags - {'-h', '--help'}


@pytest.mark.parametrize('document', READMES)
def test_published_numbers_and_data_folders(document):
    rows = re.findall(r'^\|.*`python tools/test.py (configs/\S+)` \| ([\d.]+) \|$', text(document), re.M)
    metafile = re.findall(r'Config: (\S+).*?mIoU: ([\d.]+)', text('configs/metafile.yml'), re.S)
    assert rows == metafile
    tree = next(body for body in blocks(document, 'text') if body.startswith('data\n'))
    for config in (Config.fromfile(ROOT / name) for name, _ in rows):
        dataset = config.test_dataloader.dataset
        assert f'| `{dataset.data_root}` |' in text(document)
        leaves = [*dataset.data_prefix.values(), dataset.get('ann_file', '')]
        for part in [*Path(dataset.data_root).parts, *leaves]:
            assert part in tree, (config.filename, part)


@pytest.mark.parametrize('document', READMES)
def test_every_shipped_vocabulary_is_named(document):
    assert [name for name in shipped_vocabularies() if f'`{name}`' not in text(document)] == []


def test_the_contract_of_an_attention_is_complete():
    rows = set(re.findall(r'`(\w+)', ' '.join(re.findall(r'^\| (`.*?) \|', text('CONTRIBUTING.md'), re.M))))
    fields = {field.name for field in dataclasses.fields(BlockInput)} - {'lookup'}
    members = {name for name in (*vars(Attention), *Attention.__annotations__) if not name.startswith('_')}
    assert fields | members | {'earlier'} <= rows


def keys(config):
    """The nested keys of a config, without values."""
    return {key: keys(value) if isinstance(value, dict) else None for key, value in config.items()}


@pytest.mark.parametrize('document', READMES)
def test_the_config_contract(document, mini_clip):
    scope = {}
    exec(python_block(document, "type='SCLIPSegmentor'"), scope)
    model = scope['model']
    expected = keys(Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'sclip.py').model.to_dict())
    expected['decode_head']['vocabulary'] = None
    assert keys(model) == expected
    leaf = Config.fromfile(paths.config_path('sclip_voc21')).model.to_dict()
    leaf['decode_head']['class_names'] = None
    assert model == leaf
    # With the further keys of the table, all that can be set is named.
    documented = set(model['test_cfg']) | set(re.findall(r'^\| `test_cfg\.(\w+)`', text(document), re.M))
    assert documented == set(complete_test_cfg(None, None))
    built = MODELS.build({**model, 'clip': mini_clip})
    assert (built.num_classes, built.out_channels) == (21, 56)


def test_python_calls(fresh_engine, mini_clip, recipe, tmp_path):
    """The README's calls, with a config of the same name on a tiny CLIP."""
    base = paths.config_path('sclip_voc21')
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / 'sclip_voc21.py').write_text(
        f"_base_ = {str(base)!r}\nmodel = dict(clip=dict(**{mini_clip!r}), decode_head=dict(templates='simple'))\n"
    )
    Image.fromarray(recipe.image(0, 60, 80)).save('photo.jpg')
    scope = {}
    exec(python_block('README.md', 'inference_model'), scope)
    assert scope['labels'].shape == (60, 80)
    assert Path('photo_classes.jpg').is_file()
    assert scope['result'].pred_sem_seg.data.max() < 3
    assert scope['model'].dataset_meta['classes'] == ['background', 'cat', 'remote control']


def test_the_runner_of_the_readme(fresh_engine):
    body = python_block('README.md', 'Runner.from_cfg')
    few = 'config.test_dataloader.dataset.count = 2\nmetrics ='
    assert body.count('metrics =') == 1
    scope = {}
    exec(body.replace('metrics =', few), scope)
    assert set(scope['metrics']) == {'aAcc', 'mIoU', 'mAcc'}


def test_the_backbone_of_the_readme(mini_clip):
    real = "dict(model_name='ViT-B-16-quickgelu', pretrained='openai')"
    body = python_block('README.md', 'backbone(images)')
    assert real in body
    scope = {}
    exec(body.replace(real, repr(mini_clip)), scope)
    assert scope['features'].shape == (1, 64, 14, 14)


def test_the_coco_script_of_the_readme(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = Path('data/coco_stuff164k/annotations/val2017')
    folder.mkdir(parents=True)
    # First and last of each kind, both sides of a gap: raw value -> MMSegmentation's train id, COCO-Object's value.
    expected = {0: (0, 1), 10: (10, 11), 12: (11, 12), 24: (23, 24), 26: (24, 25), 89: (79, 80)}
    expected |= {91: (80, 0), 92: (81, 0), 181: (170, 0), 255: (255, 0)}
    Image.fromarray(np.array([list(expected)], np.uint8)).save(folder / '000000000139.png')
    for _ in range(2):  # a second run must not convert its own output
        exec(python_block('README.md', '_instanceTrainIds'), {})
    assert len(list(folder.iterdir())) == 3
    for column, suffix in enumerate(('labelTrainIds', 'instanceTrainIds')):
        found = np.array(Image.open(folder / f'000000000139_{suffix}.png'))[0]
        assert found.tolist() == [values[column] for values in expected.values()]


def test_own_attention_runs_from_a_config(fresh_engine, tmp_path, capfd):
    config = ROOT / 'examples' / 'own_attention' / 'sclip_demo_mine.py'
    flags = ['--work-dir', 'work', '--show-dir', 'pictures', '--device', 'cpu']
    assert main.main(['test', str(config), *flags, '--cfg-options', 'test_dataloader.dataset.count=4']) == 0
    assert 'mIoU' in ''.join(capfd.readouterr())
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 4
    attention = Config.fromfile(config).model.backbone.decoder.attention
    assert attention == dict(type='MyCosineAttention', sharpness=10.0)


def test_own_dataset_runs_from_a_config(fresh_engine, mini_clip, recipe, tmp_path, capfd):
    data = tmp_path / 'my kitchen'
    for folder in ('images', 'labels'):
        (data / folder).mkdir(parents=True)
    for number, (height, width) in enumerate(((60, 80), (70, 50))):
        Image.fromarray(recipe.image(number, height, width)).save(data / 'images' / f'{number}.jpg')
        labels = np.random.RandomState(number).choice([0, 1, 2, 3, 255], (height, width)).astype(np.uint8)
        Image.fromarray(labels).save(data / 'labels' / f'{number}.png')
    config = ROOT / 'examples' / 'own_dataset' / 'sclip_kitchen.py'
    flags = [
        '--data-root',
        str(data),
        '--work-dir',
        'work',
        '--out',
        'out',
        '--show-dir',
        'pictures',
        '--device',
        'cpu',
    ]
    clip = ['--model-name', mini_clip['model_name'], '--pretrained', mini_clip['pretrained']]
    assert main.main(['test', str(config), *flags, *clip]) == 0
    output = ''.join(capfd.readouterr())
    assert all(name in output for name in ('background', 'cup', 'plate', 'spoon', 'mIoU'))
    for number, (height, width) in enumerate(((60, 80), (70, 50))):
        assert np.array(Image.open(f'out/{number}.png')).shape == (height, width)
        assert Path(f'pictures/{number}.png').is_file()


def segmentor(clip, decoder):
    return MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=clip,
            backbone=dict(type='CLIPVisionTransformer', decoder=decoder),
            decode_head=dict(type='TextSimilarityHead', vocabulary=['cat', 'dog', 'tree'], templates='simple'),
            test_cfg=dict(crop_size=(64, 64), stride=(32, 32)),
        )
    ).eval()


@pytest.mark.parametrize('name', ATTENTIONS)
def test_attention_examples_keep_the_contract(examples, mini_clip, name):
    model = segmentor(mini_clip, dict(type='LastBlock', attention=dict(type=name)))
    images = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        memory = model.backbone.record(images)
        feedback = Feedback(images, torch.randn(2, 3, *memory.grid))
        attention = model.backbone.decoder.attention
        for found in [None, feedback][: attention.passes]:
            b = model.backbone.tower.block_input(3, memory, memory.grid, found)
            torch.testing.assert_close(attention.attend(b), attention.weights(b) @ b.v)
            mixed = attention.weights(b, mix=lambda logits: logits + 1)  # a softmax does not see a constant
            torch.testing.assert_close(mixed, attention.weights(b), atol=1e-5, rtol=1e-4)
        assert model.predict(list(images))[0].pred_sem_seg.data.shape == (1, 48, 64)


@pytest.mark.parametrize('bonus, same', [(0.0, True), (3.0, False)])
def test_the_second_pass_of_the_example(examples, mini_clip, bonus, same):
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        twice, once = (
            segmentor(mini_clip, dict(type='LastBlock', attention=attention))._forward(images)
            for attention in (dict(type='MyTwoPassAttention', bonus=bonus), dict(type='CorrelativeSelfAttention'))
        )
    assert torch.allclose(twice, once, atol=1e-6) == same


def test_the_prior_of_the_example(examples, mini_clip):
    attention = MODELS.build(dict(type='MyNeighbourAttention', sigma=2.0))
    b = BlockInput(*torch.zeros(3, 1, 1, 7, 4), torch.zeros(1, 7, 4), (2, 3), 1, 0.5)
    prior = attention.prior(b)
    assert prior.shape == (7, 7)
    assert not prior[0].any() and not prior[:, 0].any()
    torch.testing.assert_close(prior[1:, 1:].diagonal(), torch.ones(6))
    # Patch 0 is at (0, 0), patch 5 at (1, 2): a squared distance of 5.
    torch.testing.assert_close(prior[1, 6], torch.tensor(-5 / 8).exp())


def test_the_decoder_example_stops_early(examples, mini_clip):
    model = segmentor(mini_clip, dict(type='MyEarlyExit', block=-2))
    ran = []
    for number in (2, 3):
        model.backbone.tower.block(number).register_forward_hook(lambda *_, number=number: ran.append(number))
    with torch.no_grad():
        (features,) = model.extract_feat(torch.randn(1, 3, 64, 64))
    assert features.shape == (1, 64, 4, 4)
    assert ran == [2]


@pytest.mark.parametrize('name', ['README.md', 'README_zh-CN.md', 'CONTRIBUTING.md'])
def test_no_placeholder_is_left(name):
    assert '@@' not in (ROOT / name).read_text(encoding='utf-8')


@pytest.mark.parametrize('document', sorted(path.name for path in (ROOT / 'docs').glob('*.md')))
def test_links_and_paths_of_the_docs_exist(document):
    content = text(f'docs/{document}')
    links = re.findall(r'\]\((?!https?:|#)([^)#]+)', content)
    assert not [link for link in links if not (ROOT / 'docs' / link).exists()]
    named = re.findall(r'(?<![\w./-])((?:tools|configs|examples|tests|mmseg_sclip|docs)/[\w./-]*\w/?)', content)
    assert not [name for name in named if not (ROOT / name).exists()]
    for command in re.findall(r'`python (tools/\w+\.py)', content):
        assert (ROOT / command).is_file()


def test_the_tools_of_the_readme_run_literally(fresh_engine, tmp_path):
    (block,) = [block for block in BLOCK.finditer(text('README.md')) if block['note'] == 'runs: literally']
    commands = [shlex.split(line) for line in block['body'].splitlines()]
    assert [command[1] for command in commands] == ['tools/segment.py', 'tools/attention.py', 'tools/compare.py']
    for _, tool, *arguments in commands:
        assert main.main([Path(tool).stem, *arguments]) == 0
    (entry,) = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert sum(one['coverage'] for one in entry['classes']) == pytest.approx(100)
    labels = np.asarray(Image.open(tmp_path / 'out' / entry['files']['labels']))
    assert entry['size'] == [labels.shape[1], labels.shape[0]]
    for name, least in {entry['files']['overlay']: 128, 'scene_13_attention.png': 700, 'comparison.png': 400}.items():
        assert Image.open(tmp_path / 'out' / name).width >= least


def test_the_inferencer_of_the_readme(fresh_engine, mini_clip, recipe, tmp_path, monkeypatch):
    from mmseg_sclip import apis

    class Mini(apis.SCLIPInferencer):
        def __init__(self, **kwargs):
            super().__init__(**mini_clip, **kwargs)

    monkeypatch.setattr(apis, 'SCLIPInferencer', Mini)
    Image.fromarray(recipe.image(0, 60, 80)).save(tmp_path / 'photo.jpg')
    names = {}
    exec(python_block('README.md', 'SCLIPInferencer'), names)
    assert names['labels'].shape == (60, 80)
    assert names['names'] == ['background', 'cat', 'sofa', 'remote control']
    assert sum(names['coverage']) == pytest.approx(100)
    assert names['others']['names'] == ['background', 'window', 'wall']
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'photo.png',
        'photo_overlay.png',
        'summary.json',
    ]
