"""tools/test.py writes where it is told, and never over what it was given."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.datasets.scenes import scene
from mmseg_sclip.files import is_ours
from mmseg_sclip.paths import config_path

OPTIONS = ('--cfg-options', 'test_dataloader.num_workers=0', 'model.test_cfg.crop_size=32')


@pytest.fixture
def data(tmp_path):
    """Three scenes of which two have one stem, as PNG, in the layout of the demo's dataset."""
    root = tmp_path / 'data'
    for number, name in enumerate(('a/scene', 'b/scene', 'b/other')):
        painted = scene('evaluation', 0, number, 32, 5)
        for folder, pixels in (('images', painted.image), ('annotations', painted.label)):
            path = root / folder / f'{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def config(data, tmp_path):
    """A config of the user's for these scenes."""
    path = tmp_path / 'own' / 'mine.py'
    path.parent.mkdir()
    path.write_text(
        f'_base_ = [{str(config_path("sclip_demo"))!r}]\n'
        f'test_dataloader = dict(dataset=dict(data_root={str(data)!r}, img_suffix=".png"))'
    )
    return path


def contents(*roots):
    files = [path for root in roots for path in Path(root).rglob('*') if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_ino) for path in files}


@pytest.mark.parametrize(
    'flags, words',
    [
        (['--out', 'link'], '--out'),
        (['--show-dir', 'data/images/new/deep'], '--show-dir'),
        (['--work-dir', 'own'], '--work-dir'),
        (['--out', 'same', '--show-dir', 'data/../same'], '--out and --show-dir are the same folder'),
    ],
    ids=' '.join,
)
def test_outputs_over_inputs_are_refused_before_the_first_image(data, config, run_main, tmp_path, flags, words):
    (tmp_path / 'link').symlink_to(data / 'images' / 'a')
    before = contents(data, config.parent)
    result = run_main(config, *flags, *OPTIONS)
    assert result.code == 1 and words in result.last and 'Traceback' not in result.err
    assert 'Iter(test)' not in result.out + result.err
    assert contents(data, config.parent) == before and not list(tmp_path.glob('same/*'))


@pytest.mark.slow
def test_the_work_folder_keeps_a_config_of_the_users_name(config, run_main, tmp_path):
    """MMEngine writes the whole config to WORK_DIR/NAME.py."""
    other = tmp_path / 'work' / 'mine.py'
    other.parent.mkdir()
    other.write_text('# another one of mine')
    result = run_main(config, *OPTIONS)
    assert result.code == 1 and 'work/mine.py is there already' in result.last
    assert other.read_text() == '# another one of mine'
    other.unlink()
    for _ in range(2):  # the second run replaces what the first one wrote
        assert run_main(config, *OPTIONS).code == 0 and is_ours(other)
    content = other.read_bytes()
    assert run_main(other, *OPTIONS, 'model.test_cfg.logit_scale=20').code == 0  # given from there, it is an input
    assert other.read_bytes() == content


@pytest.mark.slow
def test_equal_stems_get_files_of_their_own_and_a_second_run_the_same_names(data, config, run_main, tmp_path):
    (tmp_path / 'pictures').mkdir()
    Image.new('RGB', (9, 9)).save(tmp_path / 'pictures' / 'other.png')  # of the user
    before = contents(data, tmp_path / 'pictures')
    for _ in range(2):
        result = run_main(config, '--out', 'maps', '--show-dir', 'pictures', *OPTIONS)
        assert result.code == 0, result.err
        assert f'3 pictures are in {tmp_path / "pictures"}' in result.out
        assert f'3 label maps are in {tmp_path / "maps"}' in result.out
        assert sorted(path.name for path in (tmp_path / 'maps').iterdir()) == ['other.png', 'scene-2.png', 'scene.png']
        names = sorted(path.name for path in (tmp_path / 'pictures').iterdir())
        assert names == ['other-2.png', 'other.png', 'scene-2.png', 'scene.png']
    maps = [np.asarray(Image.open(tmp_path / 'maps' / f'{name}.png')) for name in ('scene', 'scene-2', 'other')]
    assert all(one.shape == (32, 32) for one in maps) and len({one.tobytes() for one in maps}) == 3
    after = contents(data, tmp_path / 'pictures')
    assert {path: after[path] for path in before} == before
