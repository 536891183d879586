"""Weights by a name of the hub, as a user gives it: the label maps are those of the weights in a file.

Every form of a file and every place is tested in tests/models/test_weights.py and test_clip.py.
"""

import json

import cv2
import numpy as np
import open_clip
import pytest
from safetensors.torch import save_file

OPTIONS = ['--cfg-options', 'model.decode_head.templates=simple', 'test_dataloader.num_workers=0']


@pytest.mark.slow
def test_the_same_label_maps(run_main, small_voc, mini_state, mini_json, mini_weights, tmp_path, monkeypatch):
    """From the cache that the client of Hugging Face would have left."""
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    repository, commit = tmp_path / 'cache' / 'models--someone--mini-clip', '0123456789abcdef0123456789abcdef01234567'
    folder = repository / 'snapshots' / commit
    for path in (folder, repository / 'refs'):
        path.mkdir(parents=True)
    (repository / 'refs' / 'main').write_text(commit)
    colours = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
    content = dict(model_cfg=json.loads(mini_json.read_text()), preprocess_cfg=colours)
    (folder / 'open_clip_config.json').write_text(json.dumps(content))
    save_file(mini_state, folder / 'open_clip_model.safetensors')
    maps = []
    for name, *weights in ((mini_json, '--pretrained', mini_weights), ('hf-hub:someone/mini-clip',)):
        flags = ['--model-name', name, *weights, '--data-root', small_voc, '--out', 'maps']
        assert run_main('sclip_voc20', *flags, *OPTIONS, f'model.clip.cache_dir={tmp_path / "cache"}').code == 0
        maps.append([cv2.imread(f'maps/{number}.png', cv2.IMREAD_UNCHANGED) for number in range(2)])
    for plain, other, shape in zip(*maps, ((61, 83), (90, 47)), strict=True):
        assert plain.shape == shape and len(np.unique(plain)) > 2  # or any weights would do
        np.testing.assert_array_equal(other, plain)


def test_a_tag_that_is_in_no_cache(small_voc, run_main, tmp_path, monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    result = run_main('sclip_voc20', '--data-root', small_voc, *OPTIONS, f'model.clip.cache_dir={tmp_path / "cache"}')
    assert result.code == 1 and 'Traceback' not in result.err
    assert all(words in result.last for words in ('Error: ', "'openai'", 'cache', 'pretrained', 'HF_ENDPOINT'))
