"""Datasets at addresses, which MMEngine's file clients read: they work, or a sentence says why they cannot."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mmseg_sclip.datasets.building import build_dataset
from mmseg_sclip.datasets.check_files import check_files, name_files_in_errors
from mmseg_sclip.datasets.pipelines import with_own_readers
from mmseg_sclip.errors import BadFileError, ConfigError

STEPS = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder with one image and its label map, and its address."""
    monkeypatch.setenv('no_proxy', '*')
    for folder, values in (('images', np.full((2, 5, 3), 9)), ('labels', np.arange(10).reshape(2, 5))):
        (tmp_path / folder).mkdir()
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / folder / 'a.png')
    (tmp_path / 'val.txt').write_text('a\n')
    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield tmp_path, f'http://127.0.0.1:{server.server_address[1]}'
        server.shutdown()


def build(folder, address, kind='BaseSegDataset', root=True, **settings):
    prefix = dict(img_path=f'{address}/images', seg_map_path=f'{address}/labels')
    config = dict(type=kind, data_root=str(folder) if root else None, data_prefix=prefix, **settings)
    config.update(metainfo=dict(classes=('a', 'b')), pipeline=with_own_readers(STEPS))
    if kind == 'BaseSegDataset':
        config['img_suffix'] = '.png'
    with DefaultScope.overwrite_default_scope('mmseg'):
        check_files(config)
        dataset = build_dataset(config)
    name_files_in_errors(dataset)
    return dataset


def test_images_and_label_maps_at_an_http_address(served):
    folder, address = served
    sample = build(folder, address, ann_file='val.txt')[0]
    assert sample['inputs'].unique().tolist() == [9]
    assert sample['data_samples'].gt_sem_seg.data[0].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    (folder / 'val.txt').write_text('b\n')
    with pytest.raises(BadFileError, match=f'{address}/images/b.png cannot be read .*404'):
        build(folder, address, ann_file='val.txt')[0]


@pytest.mark.parametrize('kind', ['BaseSegDataset', 'ImageFolderDataset'])
@pytest.mark.parametrize('address', [None, 's3://bucket'])
def test_what_cannot_be_listed_is_one_sentence(served, kind, address):
    folder, own = served
    with pytest.raises(ConfigError, match='ann_file|petrel_client'):
        build(folder, address or own, kind)
