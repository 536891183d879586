import json

import pytest
from mmengine.config import Config

from mmseg_sclip.ablation.rows import select
from mmseg_sclip.ablation.running import configure
from mmseg_sclip.cli import main
from mmseg_sclip.config import load_config
from mmseg_sclip.engine import flops


def cost(capsys, *argv):
    assert main.main(['get-flops', '--json', *map(str, argv)]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize(
    'row, size, windows, window, clip',
    [
        ('mode1', [224, 299], 2, 224, 17.563),
        ('mode5', [448, 597], 2, 448, 78.5),
    ],
)
def test_the_modes_of_table_4(capsys, tmp_path, row, size, windows, window, clip):
    (mode,) = select('4', [row])
    config = configure(mode, 'voc21', {})
    config.dump(tmp_path / 'mode.py')
    found = cost(capsys, tmp_path / 'mode.py')
    assert (found['image'], found['network_input']) == ([375, 500], size)
    assert (found['windows'], found['window']) == (windows, [window, window])
    assert found['gmac_clip_per_window'] == pytest.approx(clip, abs=0.01)
    assert found['gmac_clip_per_image'] == pytest.approx(windows * clip, rel=1e-3)
    assert found['gmac_per_image'] == pytest.approx(windows * found['gmac_per_window'])


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, options, products',
    [
        ('clip_voc21', [], 2),
        ('sclip_voc21', [], 4),
        ('maskclip_voc21', [], 0),
        ('sclip_voc21', ['--cfg-options', 'model.backbone.decoder.attention.projections=[q]'], 2),
    ],
)
def test_the_decoder_is_counted(capsys, name, options, products):
    tokens, width, out = 197, 768, 512
    per_block = 12 * tokens * width * width  # qkv, the output and the feed-forward part
    patches = 196 * 768 * width
    expected = 12 * per_block + 11 * 2 * tokens**2 * width + products * tokens**2 * width + patches
    expected += tokens * width * out
    assert cost(capsys, name, *options)['gmac_per_window'] == pytest.approx(expected / 1e9, rel=1e-6)


@pytest.mark.slow
def test_a_second_network_and_padded_windows_are_counted(capsys):
    """ProxyCLIP at 336 x 336 pixels: 442 tokens of CLIP, 1765 of DINO with patches of 8, and the map of 1764 cells."""
    width, tokens, seen, cells = 768, 442, 1765, 42 * 42

    def tower(n, patch, depth):
        return depth * (12 * n * width**2 + 2 * n**2 * width) + (n - 1) * 3 * patch**2 * width

    added = 3 * tokens * width**2 + 2 * cells**2 * width + cells * (width**2 + width * 512)
    expected = (tower(tokens, 16, 11) + tower(seen, 8, 12) + added) / 1e9
    found = cost(capsys, 'proxyclip_voc20', '--shape', 336)
    assert found['gmac_per_window'] == pytest.approx(expected, rel=1e-4)
    assert added / 1e9 < 0.03 * expected
    assert cost(capsys, 'proxyclip_voc20', '--shape', 336, 2100)['window'] == [336, 336]


@pytest.mark.slow
def test_shapes(capsys):
    assert cost(capsys, 'sclip_voc21', '--shape', 1000, 500)['network_input'] == [672, 336]
    assert cost(capsys, 'sclip_voc21', '--shape', 100)['network_input'] == [336, 336]
    demo = cost(capsys, 'sclip_demo')
    assert (demo['image'], demo['window'], demo['windows']) == ([192, 192], [96, 96], 16)
    small = cost(capsys, 'sclip_demo', '--shape', 40, 120)
    assert (small['window'], small['windows']) == ([40, 96], 2)
    whole = cost(capsys, 'sclip_voc21', '--cfg-options', 'model.test_cfg.mode=whole')
    assert (whole['windows'], whole['window']) == (1, [336, 448])


def test_other_ways_to_resize():
    for step, size in (
        (dict(scale=(50, 60)), (60, 50)),  # MMCV's order is (width, height)
        (dict(scale=None, scale_factor=0.5, keep_ratio=True), (50, 100)),
    ):
        config = Config(dict(test_dataloader=dict(dataset=dict(pipeline=[dict(type='Resize', **step)]))))
        assert flops.network_input(config, (100, 200)) == size


def test_no_weights_are_looked_for(capsys, tmp_path, mini_json):
    config = load_config('sclip_voc21')
    config.model.clip = dict(model_name=str(mini_json), pretrained='/nowhere/weights.pt')
    config.dump(tmp_path / 'mine.py')
    assert 0 < cost(capsys, tmp_path / 'mine.py')['gmac_per_window'] < 1


def test_text(capsys):
    assert main.main(['get-flops', 'sclip_voc21', '--model-name', 'ViT-B-32-quickgelu']) == 0
    out = capsys.readouterr().out
    assert 'ViT-B-32-quickgelu' in out and '6 of 224 x 224' in out and 'GMAC per window' in out
    assert 'a second network that looks at the whole image, are not counted' in out
