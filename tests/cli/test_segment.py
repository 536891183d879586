import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.apis import SCLIPInferencer
from mmseg_sclip.datasets.scenes import MATERIALS, scene
from mmseg_sclip.files import is_ours


@pytest.fixture
def clip(mini_clip):
    """Flags of the mini CLIP, on one template."""
    names = ['--model-name', mini_clip['model_name'], '--pretrained', mini_clip['pretrained']]
    return [*names, '--device', 'cpu', '--cfg-options', 'model.decode_head.templates=simple']


def summary(folder='segmented'):
    return json.loads((Path(folder) / 'summary.json').read_text(encoding='utf-8'))


def check_summary(folder):
    """The summary against the label maps, counted anew."""
    for entry in summary(folder):
        labels = Image.open(Path(folder) / entry['files']['labels'])
        assert list(labels.size) == entry['size'] and labels.mode == 'P'
        for label, listed in enumerate(entry['classes']):
            assert listed['coverage'] == pytest.approx(100 * (np.asarray(labels) == label).mean(), rel=1e-12)
            assert labels.getpalette()[3 * label : 3 * label + 3] == listed['colour']
        assert np.asarray(labels).max() < len(entry['classes'])


def names(entry):
    return [listed['name'] for listed in entry['classes']]


def test_the_demo(run, tmp_path):
    done = run('segment', '--demo', '--out-dir', 'out')
    assert done.code == 0 and str(tmp_path / 'out') in done.out
    written = {path.relative_to(tmp_path / 'out').as_posix() for path in (tmp_path / 'out').rglob('*.*')}
    results = {'painted_scene.png', 'painted_scene_overlay.png', 'input/painted_scene.jpg'}
    assert written == results | {'summary.json'} and all(is_ours(tmp_path / 'out' / name) for name in results)
    truth = scene('evaluation', 0, 0, 256, 6).label
    assert (np.asarray(Image.open(tmp_path / 'out' / 'painted_scene.png')) == truth).mean() > 0.85
    check_summary(tmp_path / 'out')


def test_own_words(run, photos, clip, tmp_path):
    result = run('segment', photos / '0.jpg', '--classes', 'cat', 'sofa, couch', '猫', 'γάτα', *clip)
    assert result.code == 0, result.err
    assert str(tmp_path / 'segmented') in result.out and str(photos / '0.jpg') in result.out
    check_summary('segmented')
    (entry,) = summary()
    assert entry['image'] == str(photos / '0.jpg') and entry['size'] == [61, 40]
    assert names(entry) == ['background', 'cat', 'sofa', '猫', 'γάτα']
    assert entry['classes'][2]['phrases'] == ['sofa', 'couch'] and len(entry['classes'][0]['phrases']) == 26
    assert '猫' in (tmp_path / 'segmented' / 'summary.json').read_text(encoding='utf-8')


def test_the_command_and_the_api_agree(run, photos, clip, mini_clip):
    run('segment', photos, '--classes', 'cat', 'tree', '--out-dir', 'out', '--attention', 'clip', '--pamr', 1, *clip)
    options = {'model.decode_head.templates': 'simple'}
    more = dict(device='cpu', attention='VanillaSelfAttention', pamr=1, cfg_options=options)
    inferencer = SCLIPInferencer(['cat', 'tree'], 'auto', **mini_clip, **more)
    for number in range(2):
        written = np.asarray(Image.open(f'out/{number}.png'))
        np.testing.assert_array_equal(written, inferencer(photos / f'{number}.jpg')['labels'])
    assert len(summary('out')[0]['classes'][0]['phrases']) == 25  # without the tree


def test_parentheses_keep_their_commas_and_doubtful_words_are_named(run, photos, clip):
    flags = ['--background', 'wall [red, white], sea', 'a; b', *clip]
    with pytest.warns(UserWarning, match='.') as caught:
        assert run('segment', photos / '0.jpg', '--classes', 'grass', 'sky (blue, clear)', 'x (y, z', *flags).code == 0
    phrases = [listed['phrases'] for listed in summary()[0]['classes']]
    assert phrases == [['wall [red, white]', 'sea', 'a; b'], ['grass'], ['sky (blue, clear)'], ['x (y', 'z']]
    said = [str(warning.message) for warning in caught if 'It was read as' in str(warning.message)]
    assert [text.partition(' has ')[0] for text in said] == ["--classes 'x (y, z'", "--background 'a; b'"]
    assert not any('in a list' in str(warning.message) for warning in caught)


def test_words_from_a_file_and_heat_maps(run, photos, clip, tmp_path):
    (tmp_path / 'words.txt').write_text('# mine\nкошка, кот\nпёс\n', encoding='utf-8')
    flags = ['--classes-file', 'words.txt', '--background', 'none', '--heatmaps', *clip]
    assert run('segment', photos / '0.jpg', *flags).code == 0
    (entry,) = summary()
    assert names(entry) == ['кошка', 'пёс']
    heat = {'кошка': '0_heat_1.png', 'кот': '0_heat_2.png', 'пёс': '0_heat_3.png'}
    assert entry['files']['heatmaps'] == heat
    assert {path.name for path in Path('segmented').glob('*_heat_*')} == set(heat.values())


def test_a_config_in_place_of_words(run, photos, clip):
    assert run('segment', photos / '1.jpg', '--config', 'sclip_voc21', *clip).code == 0
    (entry,) = summary()
    assert len(entry['classes']) == 21 and entry['classes'][1]['colour'] == [128, 0, 0]


def test_the_demo_with_words_and_pictures_of_ones_own(run, photos):
    assert run('segment', '--demo', '--classes', 'lava', 'snow').code == 0
    assert names(summary()[0]) == ['lava', 'snow']
    assert run('segment', photos, '--demo').code == 0
    assert [entry['image'] for entry in summary()] == [str(photos / f'{number}.jpg') for number in range(2)]
    assert names(summary()[0]) == list(MATERIALS)


def test_a_damaged_picture_among_others(run, photos, clip):
    (photos / '0a.jpg').write_bytes((photos / '0.jpg').read_bytes()[:400])
    (photos / '0b.jpg').write_text('no picture')
    result = run('segment', photos, '--classes', 'cat', *clip)
    assert result.code == 1
    assert result.last.startswith('Error: 2 of 4 pictures could not be segmented')
    assert '0a.jpg is damaged' in result.last and '0b.jpg is damaged' in result.last
    assert [entry['image'][-5:] for entry in summary()] == ['0.jpg'[-5:], '1.jpg'[-5:]]
    assert 'The results of 2 pictures are in' in result.out


def test_an_interrupt_keeps_what_is_done(run, photos, clip, monkeypatch):
    original, calls = SCLIPInferencer._segment, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(SCLIPInferencer, '_segment', interrupted)
    result = run('segment', photos, '--classes', 'cat', *clip)
    assert result.code == 130 and result.last == 'Interrupted.'
    assert 'The results of 1 picture are in' in result.out
    assert len(summary()) == 1
    assert sorted(path.name for path in Path('segmented').iterdir()) == ['0.png', '0_overlay.png', 'summary.json']
    monkeypatch.setattr(SCLIPInferencer, '_segment', original)
    assert run('segment', photos, '--classes', 'cat', *clip).code == 0 and len(summary()) == 2


def test_a_picture_of_the_user_stays_beside_the_demos(run, tmp_path):
    own = tmp_path / 'segmented' / 'input' / 'painted_scene.jpg'
    own.parent.mkdir(parents=True)
    own.write_text('mine')
    assert run('segment', '--demo').code == 0
    assert own.read_text() == 'mine' and summary()[0]['image'].endswith('painted_scene-2.jpg')
