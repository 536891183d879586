"""tools/test.py writes where it is told, and never over what it was given."""

from pathlib import Path

import pytest
from PIL import Image

from mmseg_sclip.datasets.scenes import scene
from mmseg_sclip.files import is_ours
from mmseg_sclip.paths import config_path

OPTIONS = ('--cfg-options', 'test_dataloader.num_workers=0', 'model.test_cfg.crop_size=32')


@pytest.fixture
def data(tmp_path):
    """Two scenes as PNG, in the layout of the demo's dataset."""
    for number in range(2):
        painted = scene('evaluation', 0, number, 32, 5)
        for folder, pixels in (('images', painted.image), ('annotations', painted.label)):
            (tmp_path / 'data' / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / 'data' / folder / f'{number}.png')
    return tmp_path / 'data'


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
    (tmp_path / 'link').symlink_to(data / 'images')
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
