"""MMSegmentation's and MMEngine's own functions on our configs, and a user's files outside the package."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.apis import MMSegInferencer, inference_model, init_model, show_result_pyplot
from mmseg.registry import DATASETS
from PIL import Image

from mmseg_sclip.config import load_config
from mmseg_sclip.datasets.scenes import scene
from mmseg_sclip.paths import config_path

SIZES = ((61, 83), (90, 47))


@pytest.fixture
def config(mini_clip, small_voc, tmp_path):
    """VOC20 (no thresholds, so that several classes show) with the mini CLIP and one template."""
    config = load_config('sclip_voc20')
    config.model.clip.update(mini_clip)
    config.model.decode_head.templates = 'simple'
    config.test_dataloader.dataset.data_root = str(small_voc)
    config.test_dataloader.num_workers = 0
    config.work_dir = str(tmp_path / 'work')
    return config


@pytest.fixture
def model(fresh_engine, config, device):
    return init_model(config, device=str(device))


@pytest.fixture
def files(small_voc):
    return [str(small_voc / 'JPEGImages' / f'{number}.jpg') for number in range(2)]


def labels(sample):
    return sample.pred_sem_seg.data[0].cpu().numpy()


def test_one_file_many_files_and_arrays(model, files):
    one_by_one = [labels(inference_model(model, file)) for file in files]
    assert [array.shape for array in one_by_one] == list(SIZES)
    assert all(len(np.unique(array)) > 2 for array in one_by_one)
    for given in (files, [cv2.imread(file) for file in files]):
        for sample, wanted in zip(inference_model(model, given), one_by_one, strict=True):
            np.testing.assert_array_equal(labels(sample), wanted)


def test_the_api_and_the_command_agree(model, files, config, run_main, mini_clip, small_voc, tmp_path):
    clip = ['--model-name', mini_clip['model_name'], '--pretrained', mini_clip['pretrained']]
    options = ['--cfg-options', 'model.decode_head.templates=simple', 'test_dataloader.num_workers=0']
    result = run_main('sclip_voc20', *clip, '--data-root', small_voc, '--out', tmp_path / 'out', *options)
    assert result.code == 0, result.err
    for number, file in enumerate(files):
        written = cv2.imread(str(tmp_path / 'out' / f'{number}.png'), cv2.IMREAD_UNCHANGED)
        agree = written == labels(inference_model(model, file)) + 1  # label maps as VOC stores them: 0 is background
        assert agree.mean() > 0.999


@pytest.mark.filterwarnings('ignore:Failed to add .*VisBackend', 'ignore:Checkpoint is not', 'ignore:weights is None')
def test_photographs_are_segmented_and_drawn_upright(fresh_engine, tmp_path):
    path = str(config_path('sclip_demo'))
    model, inferencer = init_model(path, device='cpu'), MMSegInferencer(model=path, device='cpu')
    stored = scene('evaluation', 0, 28, 96, 6).image[:, :70]
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row of the file is the right side of the picture
    file = str(tmp_path / 'photo.jpg')
    Image.fromarray(stored).save(file, exif=exif, quality=100, subsampling=0)
    decoded = cv2.imread(file, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    upright = np.ascontiguousarray(np.rot90(decoded, -1))
    expected = inferencer(upright)['predictions']  # of an array, which has no tag
    result = inference_model(model, file)
    np.testing.assert_array_equal(labels(result), expected)
    colours = np.array(model.dataset_meta['palette'])[expected]
    picture = str(tmp_path / 'picture.png')
    show_result_pyplot(model, file, result, show=False, out_file=picture, with_labels=False, opacity=1.0)
    np.testing.assert_array_equal(cv2.imread(picture)[..., ::-1], colours)
    ours = inferencer(file, return_vis=True, opacity=1.0, with_labels=False)
    np.testing.assert_array_equal(ours['predictions'], expected)
    np.testing.assert_array_equal(ours['visualization'], colours)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:Failed to add .*VisBackend', 'ignore:Checkpoint is not', 'ignore:weights is None')
@pytest.mark.parametrize('name', ['sclip_voc21', 'sclip_ade20k'])  # with and without a background
def test_mmsegs_inferencer_knows_the_classes_and_writes_files(fresh_engine, files, tmp_path, name):
    config = Config.fromfile(config_path(name))
    config.model.clip = dict(model_name='builtin:demo', pretrained=None)
    config.model.test_cfg.update(crop_size=(64, 64), stride=(64, 64))
    config.model.decode_head.templates = 'simple'
    config.dump(tmp_path / f'{name}.py')
    model = init_model(str(tmp_path / f'{name}.py'), device='cpu')
    meta = DATASETS.get(config.test_dataloader.dataset.type).METAINFO
    assert tuple(model.dataset_meta['classes']) == tuple(meta['classes'])
    inferencer = MMSegInferencer(model=str(tmp_path / f'{name}.py'), device='cpu')
    expected = labels(inference_model(model, files[0]))
    np.testing.assert_array_equal(inferencer(files[0])['predictions'], expected)
    inferencer(files, out_dir=str(tmp_path / 'out'))
    assert len(list((tmp_path / 'out' / 'vis').iterdir())) == len(list((tmp_path / 'out' / 'pred').iterdir())) == 2
    assert inferencer.visualizer.dataset_meta == inferencer.model.dataset_meta == model.dataset_meta
