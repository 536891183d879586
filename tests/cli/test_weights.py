"""`mmseg-sclip weights` on an empty cache and on a full one, and how commands end whose weights are missing."""

import json

import pytest
import tiny_companion
from helpers import lose_hub
from tiny_companion import TinyCompanion

from mmseg_sclip.models import pretrained
from mmseg_sclip.models.pretrained import weights_root
from mmseg_sclip.paths import config_name, config_path, list_configs, method_and_dataset, scenes_root


@pytest.fixture(autouse=True)
def empty_caches(fresh_cache, monkeypatch, tmp_path):
    lose_hub(monkeypatch, tmp_path)


@pytest.fixture
def own(tmp_path):
    """The demo's config with a companion that needs weights."""
    path = tmp_path / 'own.py'
    path.write_text(
        f'_base_ = [{str(config_path("sclip_demo"))!r}]\n'
        "custom_imports = dict(imports=['mmseg_sclip', 'tiny_companion'])\n"
        "model = dict(companions=dict(tiny=dict(type='TinyCompanion')))\n"
        'test_dataloader = dict(num_workers=0, dataset=dict(count=2))\n'
    )
    return path


@pytest.fixture
def nothing_loaded(monkeypatch):
    def fail(*args):
        raise AssertionError('a network was loaded, or a file fetched')

    for owner, name in ((TinyCompanion, 'load'), (pretrained, 'fetch_from_hub'), (pretrained.Pretrained, 'fetch')):
        monkeypatch.setattr(owner, name, fail)


def states(run, *argv):
    """The exit code, and of each group its configs and the states of its weights by name."""
    result = run('weights', *argv, '--json')
    needs = json.loads(result.out)['needs']
    return result.code, [(need['configs'], {own['name']: own['state'] for own in need['weights']}) for need in needs]


def test_the_weights_of_every_shipped_config_are_listed_once(run, nothing_loaded):
    code, groups = states(run)
    assert code == 1 and sorted(sum((configs for configs, _ in groups), [])) == sorted(map(config_name, list_configs()))
    (clip,) = [own for configs, own in groups if 'sclip_voc21' in configs]
    (demo,) = [own for configs, own in groups if 'sclip_demo' in configs]
    assert clip == dict(clip='missing') and demo == dict(clip='shipped')
    assert not {'missing'} & {
        state for configs, own in groups for state in own.values() if configs[0].endswith('_demo')
    }
    result = run('weights')
    said = f'copy ViT-B-16.pt into {weights_root()}'
    assert result.code == 1 and said in result.out and len(result.out.splitlines()) < 250
    assert 'files of weights are missing: CLIP ViT-B-16-quickgelu (openai)' in result.last
    assert 'clip: CLIP ViT-B-16-quickgelu (openai) (MISSING)' in result.out


def test_a_method_a_config_and_where_its_file_lies(run, own, tmp_path, nothing_loaded):
    assert states(run, 'sclip_demo') == (0, [(['sclip_demo'], dict(clip='shipped'))])
    gem = [configs for configs, _ in states(run, 'gem')[1]]  # the method, the demo apart
    names = [config_name(path) for path in list_configs() if method_and_dataset(path.stem)[0] == 'gem']
    assert sorted(gem) == [['gem_demo'], [name for name in names if name != 'gem_demo']][::-1] and len(names) == 10
    assert states(run, own) == (1, [([str(own)], dict(clip='shipped', tiny='missing'))])
    entry = json.loads(run('weights', own, '--json').out)['needs'][0]['weights'][1]
    assert entry == dict(
        name='tiny',
        what='Tiny ViT',
        state='missing',
        path=None,
        files=['tiny_pretrain.pth'],
        given=None,
        repository=None,
        published='https://example.org/tiny_pretrain.pth',
        licence='MIT',
        size_mb=1,
        setting='model.companions.tiny.pretrained',
        flag='--weights tiny=FILE',
        copy='tiny_pretrain.pth',
        to=str(weights_root()),
    )
    weights_root().mkdir(parents=True)
    tiny_companion.write_weights(weights_root() / 'tiny_pretrain.pth')
    assert states(run, own) == (0, [([str(own)], dict(clip='shipped', tiny='weights folder'))])
    tiny_companion.write_weights(tmp_path / 'mine.pth')
    assert states(run, own, '--weights', 'tiny=mine.pth') == (0, [([str(own)], dict(clip='shipped', tiny='named'))])
    result = run('weights', own, '--weights', 'tiny=none.pth', '--cfg-options', 'load_from=c.pth')
    assert result.code == 1 and "model.companions.tiny.pretrained names 'none.pth', which is not there" in result.out
    assert 'Error: 2 of 3 files of weights are missing: Tiny ViT, the checkpoint c.pth.' in result.last
    assert "No shipped config is called 'sclop'" in run('weights', 'sclop').last


COMMANDS = {
    'test': 'test OWN --work-dir work',
    'compare': 'compare OWN sclip_demo --worst 1',
    'compare of images': 'compare OWN sclip_demo --images photos/0.jpg',
    'compare-methods': 'compare-methods demo --methods OWN',
    'segment': 'segment photos/0.jpg --classes cat dog --config OWN',
    'attention': 'attention photos/0.jpg --points 5,5 --config OWN',
}
DEMO = ('segment', 'attention')  # they say how they can be tried all the same


@pytest.mark.parametrize('command', COMMANDS)
def test_a_missing_file_ends_a_command_before_data_are_read(run, own, photos, command):
    result = run(*COMMANDS[command].replace('OWN', str(own)).split())
    said, _, more = result.last.removeprefix('Error: ').partition('in a config). ')
    sentence = (
        'The weights of Tiny ViT are missing: copy tiny_pretrain.pth, published at '
        f'https://example.org/tiny_pretrain.pth, into {weights_root()}, or name the file with --weights tiny=FILE '
        '(model.companions.tiny.pretrained in a config).'
    )
    assert result.code == 1 and 'Traceback' not in result.err
    if command in DEMO:
        assert f'{said}in a config).' == sentence and '--demo' in more
    else:
        assert result.last == f'Error: {sentence}'
    assert not scenes_root().exists()


def test_both_missing_data_and_missing_weights_are_told(run, own):
    result = run('test', own, '--weights', 'tiny=none.pth', '--data-root', 'nowhere', '--cfg-options',
                 'test_dataloader.dataset.type=ImageFolderDataset')  # fmt: skip
    assert result.code == 1 and 'nowhere does not exist' in result.last and "names 'none.pth'" in result.last


@pytest.mark.slow
def test_weights_by_flag_count_by_their_content(run, own, tmp_path):
    """In the fingerprint and in the result."""
    results = []
    for seed in (0, 1):
        tiny_companion.write_weights(tmp_path / 'mine.pth', seed)
        argv = ('test', own, '--weights', 'tiny=mine.pth', '--work-dir', f'work{seed}', '--device', 'cpu')
        assert run(*argv).code == 0
        results.append(json.loads((tmp_path / f'work{seed}' / 'result.json').read_text()))
    first, second = results
    assert first['weights']['companions']['tiny']['name'] == 'Tiny ViT'
    assert first['weights'] != second['weights'] and first['fingerprint'] != second['fingerprint']
    assert first['classes'] == second['classes']  # no part reads this companion
