"""The documents: what they name exists, what they show runs, and the numbers that stand twice agree."""

import importlib
import re
import shlex
from configparser import ConfigParser
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
import yaml
from helpers import sample
from mmengine.config import Config
from mmseg.registry import MODELS
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image

from mmseg_sclip import apis, paths
from mmseg_sclip.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / 'README.md', ROOT / 'README_zh-CN.md', ROOT / 'CONTRIBUTING.md', *sorted(ROOT.glob('docs/*.md'))]
METHODS = {path.stem.removesuffix('_context59') for path in paths.list_configs() if path.stem.endswith('_context59')}
BLOCK = re.compile(r'(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$', re.M | re.S)
OF_DOCUMENTS = pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)


def text(document):
    return (ROOT / document).read_text(encoding='utf-8')


def python(document, mark):
    """The one Python block of a document with `mark` in it."""
    (body,) = [block['body'] for block in BLOCK.finditer(text(document)) if mark in block['body']]
    return body


def run(document, mark, names=None, **replaced):
    """The names that this block has set; words of it may be replaced."""
    names, body = {} if names is None else names, python(document, mark)
    for old, new in replaced.items():
        body = body.replace(old, new)
    exec(body, names)
    return names


def anchors(document):
    """What GitHub calls the headings of a document in links."""
    headings = re.findall(r'^#+ (.*)$', text(document), re.M)
    return {re.sub(r'[^\w\- ]', '', heading).strip().lower().replace(' ', '-') for heading in headings}


@OF_DOCUMENTS
def test_links_paths_and_quotes_are_right(document):
    for link in re.findall(r'\]\((?!https?:)([^)]+)\)', text(document)):
        path, _, anchor = link.partition('#')
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    named = re.findall(r'(?<![\w./-])((?:tools|configs|examples|tests|mmseg_sclip|docs)/[\w./-]*\w/?)', text(document))
    named += re.findall(r'`((?:segmentors|models)/[\w/]+\.py)`', text(document))
    places = (ROOT, ROOT / 'mmseg_sclip', ROOT / 'mmseg_sclip' / 'models')
    named = [name for name in named if not re.search('NAME|DATASET', name)]
    assert not [name for name in named if not any((at / name).exists() for at in places)]
    for block in BLOCK.finditer(text(document)):
        if (block['note'] or '').startswith('file: '):
            assert block['body'] == text(block['note'].removeprefix('file: ')), block['note']


def commands(document):
    """(command, arguments) of each call of a tool, in blocks and in running text."""
    blocks = [block['body'] for block in BLOCK.finditer(text(document)) if block['language'] == 'bash']
    lines = '\n'.join(blocks).split('\n') + re.findall(r'`((?:python tools/|mmseg-sclip )[^`]*)`', text(document))
    for line in lines:
        match = re.search(r'(?:python tools/(\w+)\.py|mmseg-sclip ([\w-]+)|tools/dist_(test)\.sh) (.*)', line)
        if match and match[4]:
            words = [word for word in shlex.split(match[4]) if not (match[3] and word.isdigit())]
            yield (match[1] or match[2] or match[3]).replace('-', '_'), words


def parser_of(name):
    return importlib.import_module(f'mmseg_sclip.cli.arguments.{name}').build_parser()


@OF_DOCUMENTS
def test_commands_can_be_parsed(document, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools')  # of the benchmark, which is not a command of the package
    for name, arguments in commands(document):
        parser = importlib.import_module(name).build_parser() if name == 'benchmark' else parser_of(name)
        parser.parse_intermixed_args(arguments)
        for config in (word for word in arguments[:1] if word.startswith(('sclip_', 'configs/'))):
            assert paths.config_path(config.removeprefix('configs/'))


def test_the_flags_of_each_command_are_those_of_its_parser():
    _, common, *sections = re.split(r'^## ', text('docs/command_line.md'), flags=re.M)
    rows = [re.findall(r'^\| (`--.*?) \|', section, re.M) for section in (common, *sections)]
    common, *named = (set(re.findall(r'--[\w-]+', ' '.join(row))) for row in rows)
    for name, here in zip((section.partition('\n')[0] for section in sections), named, strict=True):
        flags = set(parser_of(name.replace('-', '_'))._option_string_actions)
        assert here <= flags, name
        assert name != 'test' or flags - here - common == {'-h', '--help', '--local-rank'}


def test_versions_are_those_of_the_setup_and_of_the_workflow():
    setup = ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    options, extras = setup['options'], setup['options.extras_require']
    lines = '\n'.join([options['install_requires'], extras['onedl'], extras['lite']]).split()
    allowed = {each.name: each.specifier for each in map(Requirement, lines)}
    allowed['Python'] = SpecifierSet(options['python_requires'])
    page = text('docs/install.md').replace('mmcv or mmcv-lite', 'mmcv-lite')
    rows = {name: SpecifierSet(value) for name, value in re.findall(r'^\| ([\w-]+) \| (>= [^|]+) \|$', page, re.M)}
    assert rows == {name: allowed[name] for name in allowed if name in rows or 'mm' in name}
    assert {'Python', 'torch', 'open_clip_torch'} < set(rows)
    for line in re.findall(r'^\| 3\.\d+ \| .* demo', page, re.M):
        python_version, torch_version, _, packages, _ = line.strip('| ').split(' | ')
        for package in (f'Python {python_version}', f'torch {torch_version}', *packages.split(', ')):
            assert package.split()[1] in allowed[package.split()[0]], package
    job = yaml.safe_load(text('.github/workflows/ci.yml'))['jobs']['run']
    assert job['strategy']['matrix']['python'] == [f'3.{minor}' for minor in range(10, 14)]


@pytest.mark.slow
def test_the_demo_prints_what_the_documents_say(tmp_path):
    page = text('docs/ablations.md')
    rows = re.findall(r'^\|\s+([a-z ]+?)\s+\|\s+([\d.]+)\s\|\s+([\d.]+) \|$', page, re.M)
    (total,) = re.findall(r'aAcc: ([\d.]+)00  mIoU: ([\d.]+)00  mAcc: ([\d.]+)00', page)
    names = ['clip', 'maskclip', 'sclip']
    assert main(['compare-methods', 'demo', '--methods', *names, '--out', str(tmp_path), '--device', 'cpu']) == 0
    results = [mmengine.load(tmp_path / 'own' / name / 'result.json') for name in names]
    (written,) = re.findall(r'^\| 0 \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|', page, re.M)
    assert [float(value) for value in written] == pytest.approx([r['metrics']['mIoU'] for r in results], abs=0.02)
    assert written[2] == total[1]
    assert not [name for name in ('README.md', 'README_zh-CN.md') for number in written if number not in text(name)]
    hook = Config.fromfile(paths.config_path('sclip_demo')).default_hooks.references
    assert [f'{value:.2f}' for value in hook.miou.values()] == [*written[:2]]
    result = results[2]
    shown = {name: (float(iou), float(acc)) for name, iou, acc in rows}
    assert shown == {each['name']: pytest.approx((each['IoU'], each['Acc']), abs=0.1) for each in result['classes']}
    assert list(map(float, total)) == pytest.approx([result['metrics'][m] for m in ('aAcc', 'mIoU', 'mAcc')], abs=0.02)


def test_every_method_has_a_section_and_a_row_and_numbers_are_those_of_the_metafile():
    rows = re.findall(r'`python tools/test.py (configs/\S+)` \| ([\d.]+) \|$', text('README.md'), re.M)
    assert rows == re.findall(r'Config: (\S+).*?mIoU: ([\d.]+)', text('configs/metafile.yml'), re.S)
    for document in ('README.md', 'docs/methods.md'):
        assert set(re.findall(r'`(\w+)_\*`', text(document))) == METHODS
    rooms = {path.stem.replace('_', '-') for path in (ROOT / 'mmseg_sclip' / 'models' / 'methods').glob('[a-z]*')}
    named = set(re.findall(r'\(docs/methods\.md#([\w-]+)\)', text('README.md')))
    assert rooms - {'sclip-ablations'} <= named - {'what-they-cost'} <= anchors('docs/methods.md')
    here = re.findall(r'^- \*\*Here:\*\*(.*?)^- ', text('docs/methods.md'), re.M | re.S)
    code = ' '.join(word for part in here for word in re.findall(r'`([^`]*)`', part))
    classes = set(re.findall(r'\b[A-Z]\w+', code)) - {'True', 'False'}
    assert len(here) == len(named) - 1 and not [name for name in classes if MODELS.get(name) is None]


def test_the_protocols_are_those_of_the_configs():
    names = set()
    for row in re.findall(r'^\| (`\w+`.*\| .* \| .* \| .*, \d+ \| .*) \|$', text('docs/config.md'), re.M):
        methods, _, windows, _, scale, thresholds, refinement = row.split(' | ')
        for name in re.findall(r'\w+', methods):
            cut = Config.fromfile(paths.config_path(f'{name}_voc21')).model.test_cfg
            steps = 'whole image' if cut.mode == 'whole' else f'{cut.crop_size[0]} at steps of {cut.stride[0]}'
            values = [cut.get(key) or 'none' for key in ('logit_scale', 'prob_thd', 'area_thd')]
            assert [windows, f'{scale}, {thresholds}'] == [steps, ', '.join(map(str, values))], name
            assert re.findall(r'`(\w+)`', refinement) == [part.type for part in cut.get('refine', [])], name
            names.add(name)
    assert names == METHODS - {'maskclip_official'}


def test_the_config_reference(mini_clip):
    leaf = Config.fromfile(paths.config_path('sclip_voc21')).model.to_dict()
    leaf['decode_head']['class_names'] = None
    assert run('docs/config.md', 'clip=dict(\n')['model'] == leaf
    rows = re.findall(r'^\| `test_cfg\.(\w+)`', text('docs/config.md'), re.M)
    assert {*leaf['test_cfg'], *rows} == set(dict(MODELS.build({**leaf, 'clip': mini_clip}).test_cfg))


@pytest.fixture
def photo(fresh_engine, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(recipe.image(0, 60, 80)).save('photo.jpg')
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize('document', ['README.md', 'README_zh-CN.md', 'docs/own_images.md'])
def test_the_inferencer(photo, mini_clip, monkeypatch, document):
    full = apis.SCLIPInferencer
    monkeypatch.setattr(apis, 'SCLIPInferencer', lambda **kwargs: full(**mini_clip, **kwargs))
    names = run(document, 'import SCLIPInferencer')
    assert names['result']['labels'].shape == (60, 80) and sum(names['result']['coverage']) == pytest.approx(100)
    assert {'photo.png', 'photo_overlay.png', 'summary.json'} <= {path.name for path in (photo / 'out').iterdir()}
    if 'own' in document:
        assert names['spoon'].shape == (60, 80) and names['several'][1]['names'] == ['plate']
        assert len(names['result']['heatmaps']) == len(sum(names['result']['phrases'], []))


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:Failed to add .*VisBackend')
@torch.no_grad()
def test_the_page_on_mmsegmentation(photo, mini_clip):
    """Its functions, the runner and the backbone."""
    model = f"model = dict(clip={mini_clip!r}, decode_head=dict(templates='simple'))"
    Path('configs').mkdir()
    Path('configs/sclip_voc21.py').write_text(f'_base_ = {str(paths.config_path("sclip_voc21"))!r}\n{model}\n')
    page = 'docs/mmsegmentation.md'
    names = run(page, 'inference_model(model')
    assert names['labels'].shape == (60, 80) and Path('photo_classes.jpg').is_file()
    assert names['result'].pred_sem_seg.data.max() < 3
    assert names['model'].dataset_meta['classes'] == ['background', 'cat', 'remote control']
    names.update(images=[torch.randn(3, 60, 80)], samples=[sample((60, 80))])
    run(page, 'model.score(', names)
    assert names['labels'][0].shape == (1, 60, 80) and names['other'].num_classes == 2
    few = 'config.test_dataloader.dataset.update(count=2, size=64)\nmetrics ='
    assert set(run(page, 'Runner.from_cfg', **{'metrics =': few})['metrics']) == {'aAcc', 'mIoU', 'mAcc'}
    mini = {"dict(model_name='ViT-B-16-quickgelu', pretrained='openai')": repr(mini_clip)}
    assert run(page, 'backbone(images)', **mini)['features'].shape == (1, 64, 14, 14)


def test_the_script_for_coco(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    stem = Path('data/coco_stuff164k/annotations/val2017/000000000139')
    stem.parent.mkdir(parents=True)
    # First and last of each kind, both sides of a gap: raw value -> MMSegmentation's train id, COCO-Object's value.
    expected = {0: (0, 1), 10: (10, 11), 12: (11, 12), 24: (23, 24), 26: (24, 25), 89: (79, 80)}
    expected |= {91: (80, 0), 92: (81, 0), 181: (170, 0), 255: (255, 0)}
    Image.fromarray(np.array([list(expected)], np.uint8)).save(f'{stem}.png')
    for _ in range(2):  # a second run must not convert its own output
        run('docs/data.md', "_instanceTrainIds.png')")
    assert len(list(stem.parent.iterdir())) == 3
    written = [np.array(Image.open(f'{stem}_{kind}TrainIds.png'))[0] for kind in ('label', 'instance')]
    assert np.stack(written, 1).tolist() == [list(pair) for pair in expected.values()]
