"""Regions of images: from files, from SAM 2, by colour, and cut as the windows are."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError
from mmseg_sclip.files import is_ours
from mmseg_sclip.models import Record
from mmseg_sclip.models.companions import ColourRegions, RegionFiles, Sam2Regions
from mmseg_sclip.models.companions.region_files import write_regions
from mmseg_sclip.models.companions.sam2_regions import paint
from mmseg_sclip.models.image.windows import Place
from mmseg_sclip.models.record import Source

CLIP = SimpleNamespace(mean=(122.771, 116.746, 104.094), std=(68.501, 66.632, 70.323))
IDS = np.random.RandomState(0).randint(0, 7, (30, 40)) * 50


def source_of(size=(30, 40), name='photo', image=None, **meta):
    image = torch.randn(3, *size) if image is None else image
    return Source(image, dict(ori_shape=size, img_path=f'where/ever/{name}.jpg', **meta))


def windows(regions, source, places):
    images = torch.zeros(len(places), 3, 1, 1)
    return regions(Record(CLIP, images, (1, 1), {}, places, [source])).map[:, 0]


@pytest.mark.parametrize('suffix', ['.png', '.npy', '.npz'])
def test_files(tmp_path, suffix):
    path = tmp_path / f'photo{suffix}'
    if suffix == '.png':
        Image.fromarray(IDS.astype(np.uint16)).save(path)
    else:
        (np.save if suffix == '.npy' else np.savez)(path, IDS)
    regions = RegionFiles(str(tmp_path), suffix)
    source = source_of()
    assert regions.regions(source, CLIP).tolist() == IDS.tolist()
    found = regions.of(source, CLIP)
    assert (found * 50).tolist() == IDS.tolist()
    path.unlink()
    assert regions.of(source, CLIP) is found  # kept with the image, and with no other
    with pytest.raises(MissingFileError, match=f'of where/ever/photo.jpg are looked for in {path}'):
        regions.of(source_of(), CLIP)
    with pytest.raises(MissingFileError, match='nowhere, where regions of images are looked for, is no folder'):
        RegionFiles(str(tmp_path / 'nowhere')).load()
    with pytest.raises(ConfigError, match='this image has none'):
        regions.of(Source(source.image, dict(ori_shape=(30, 40))), CLIP)


def save(path, values):
    np.save(path, values, allow_pickle=True)


BAD = {
    'size': ('npy', lambda path: save(path, IDS.T), r'are 40 x 30 pixels, but the image is 30 x 40'),
    'fractions': ('npy', lambda path: save(path, IDS / 2), 'float64, where whole numbers'),
    'objects': ('npy', lambda path: save(path, np.array([[{}]])), 'is damaged or no file of NumPy'),
    'channels': ('npy', lambda path: save(path, IDS[..., None]), r'shape \(30, 40, 1\)'),
    'negative': ('npy', lambda path: save(path, IDS - 1), 'numbers from -1 to 299'),
    'huge': ('npy', lambda path: save(path, IDS + 2**31), 'allowed are 0 to 2147483647'),
    'two': ('npz', lambda path: np.savez(path, IDS, IDS), 'holds 2 arrays'),
    'cut': ('npz', lambda path: path.write_bytes(b'PK\x03\x04 and no more'), 'is damaged or no file of NumPy'),
    'colour': ('png', lambda path: Image.new('RGB', (40, 30)).save(path), r'shape \(30, 40, 3\)'),
    'no PNG': ('png', lambda path: Image.new('L', (40, 30)).save(path, format='JPEG'), 'is no PNG'),
    'text': ('png', lambda path: path.write_text('regions'), 'is damaged or no image'),
}


@pytest.mark.parametrize('case', BAD)
def test_wrong_files_are_refused(tmp_path, case):
    suffix, write, message = BAD[case]
    write(tmp_path / f'photo.{suffix}')
    with pytest.raises(BadFileError, match=message) as error:
        RegionFiles(str(tmp_path), f'.{suffix}').of(source_of(), CLIP)
    assert 'photo' in str(error.value)


def test_large_numbers_are_counted_as_small_ones(tmp_path):
    save(tmp_path / 'photo.npy', IDS * 1_000_000 + 5)
    assert RegionFiles(str(tmp_path), '.npy').of(source_of(), CLIP).tolist() == (IDS // 50).tolist()


def test_windows_follow_resizing_flip_and_padding(tmp_path):
    save(tmp_path / 'photo.npy', IDS)
    regions = RegionFiles(str(tmp_path), '.npy')
    places = [Place(0, (0, 32), (8, 72), ((1, 2), (3, 4))), Place(0, (20, 52), (0, 64), ((1, 2), (3, 4)))]
    meta = dict(flip=True, flip_direction='horizontal', img_padding_size=(5, 0, 0, 4))  # left, right, top, bottom
    source = source_of((30, 40), image=torch.zeros(3, 52, 72), **meta)
    dense = torch.from_numpy(IDS // 50)
    resized = F.interpolate(dense[None, None].float(), (48, 67), mode='nearest')[0, 0].flip(1)  # as images are
    whole = F.pad(resized, (5, 0, 0, 4), value=7)
    for found, place in zip(windows(regions, source, places), places, strict=True):
        expected = F.pad(whole[slice(*place.rows), slice(*place.columns)], (3, 4, 1, 2), value=7)
        assert torch.equal(found, expected.long())


def test_colours(device):
    image = torch.zeros(3, 64, 96)
    image[0, :, 40:], image[1, 40:, :40] = 1.0, 2.0
    ids = ColourRegions(cell=4, reach=0).of(source_of((64, 96), image=image.to(device)), CLIP).cpu()
    assert (
        ids.tolist() == ColourRegions(cell=4, reach=0).of(source_of((128, 192), image=image), CLIP)[::2, ::2].tolist()
    )
    expected = torch.zeros(64, 96).long()
    expected[:, 40:], expected[40:, :40] = 1, 2
    assert torch.equal(ids, expected)
    small = ColourRegions(cell=4, reach=0, least=100)  # cells; two of the three regions have more
    assert small.of(source_of((64, 96), image=image), CLIP).unique().tolist() == [0, 1, 2]
    assert ColourRegions().of(source_of((2, 3)), CLIP).shape == (2, 3)


def test_smaller_masks_lie_over_larger_ones():
    masks = [torch.zeros(4, 4), torch.zeros(4, 4), torch.zeros(4, 4)]
    masks[0][1, 1], masks[1][:3, :3], masks[2][0, :2] = 1, 1, 1
    assert paint(masks, (4, 4)).tolist() == [[2, 2, 1, 0], [1, 3, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert not paint([], (2, 2)).any()


@pytest.fixture(scope='module')
def sam2(tmp_path_factory):
    """A folder of a tiny SAM 2 of random weights, as transformers saves them."""
    transformers = pytest.importorskip('transformers')
    from transformers.models.sam2 import configuration_sam2 as sam2

    backbone = transformers.Sam2HieraDetConfig(
        **dict(hidden_size=16, num_attention_heads=1, blocks_per_stage=[1, 1, 2, 1], global_attention_blocks=[3]),
        **dict(embed_dim_per_stage=[16, 32, 64, 128], num_attention_heads_per_stage=[1, 1, 2, 4]),
        **dict(window_size_per_stage=[4, 2, 4, 2], window_positional_embedding_background_size=[4, 4]),
        image_size=[128, 128],
    )
    vision = transformers.Sam2VisionConfig(
        **dict(backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16], fpn_hidden_size=32),
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
    )
    prompt = sam2.Sam2PromptEncoderConfig(hidden_size=32, image_size=128, mask_input_channels=4)
    decoder = dict(hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16)
    config = transformers.Sam2Config(
        vision_config=vision,
        prompt_encoder_config=prompt,
        mask_decoder_config=sam2.Sam2MaskDecoderConfig(**decoder),
    )
    folder = tmp_path_factory.mktemp('sam2')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Sam2Model(config).save_pretrained(folder)
    return folder


def masks(folder, **more):
    regions = Sam2Regions(str(folder), points=3, score=-100.0, stability=0.0, **more)
    regions.load()
    return regions


@pytest.mark.slow
def test_sam2_finds_regions_and_keeps_them(sam2, tmp_path):
    source = source_of((60, 80), original=SimpleNamespace(rgb=np.arange(60 * 80 * 3).reshape(60, 80, 3).astype('u1')))
    found = masks(sam2).regions(source, CLIP)
    assert found.shape == (60, 80) and 0 < found.max() <= 9
    kept = masks(sam2, cache_folder=str(tmp_path))
    assert torch.equal(kept.regions(source, CLIP), found)
    (path,) = tmp_path.rglob('*.png')
    assert is_ours(path) and path.name == 'photo.png'
    assert torch.equal(RegionFiles(str(path.parent)).regions(source_of((60, 80)), CLIP), found)
    kept.network = None  # from here on nothing can be found anew
    assert torch.equal(kept.regions(source_of((60, 80)), CLIP), found)
    with pytest.raises(ConfigError, match='has the regions of where/ever/photo.jpg, but those of elsewhere/photo.png'):
        kept.regions(Source(source.image, dict(ori_shape=(60, 80), img_path='elsewhere/photo.png')), CLIP)
    assert masks(sam2, cache_folder=str(tmp_path), overlap=0.5).folder != kept.folder
    nothing = Sam2Regions(str(sam2), points=2, score=1e9)
    nothing.load()
    assert not nothing.regions(source, CLIP).any()


def damaged(folder, copy, change):
    for name in ('config.json', 'model.safetensors'):
        (copy / name).write_bytes((folder / name).read_bytes())
    change(copy)
    Sam2Regions(str(copy)).load()


@pytest.mark.slow
def test_wrong_weights_of_sam2_are_refused(sam2, tmp_path, fresh_cache, monkeypatch):
    from safetensors.torch import load_file, save_file

    def cut(folder):
        path = folder / 'model.safetensors'
        path.write_bytes(path.read_bytes()[:5000])

    def lacking(folder):
        tensors = load_file(folder / 'model.safetensors')
        del tensors['mask_decoder.conv_s0.bias']
        save_file(tensors, folder / 'model.safetensors', metadata=dict(format='pt'))

    def another(folder):
        config = json.loads((folder / 'config.json').read_text())
        config['mask_decoder_config']['mlp_dim'] = 16
        (folder / 'config.json').write_text(json.dumps(config))

    for change, message in (
        (cut, 'holds no SAM 2 that transformers can read'),
        (lacking, 'lacks 1 weights of SAM 2, such as mask_decoder.conv_s0.bias'),
        (another, 'holds no SAM 2 that transformers can read'),
    ):
        with pytest.raises(BadFileError, match=message) as error:
            damaged(sam2, tmp_path, change)
        assert str(tmp_path) in str(error.value)
    for name in ('config.json', 'model.safetensors'):
        with pytest.raises(MissingFileError, match=name):
            damaged(sam2, tmp_path, lambda folder, name=name: (folder / name).unlink())
    with pytest.raises(MissingFileError, match='nowhere/model.safetensors'):
        Sam2Regions(str(tmp_path / 'nowhere')).load()


def test_what_is_written_is_no_file_of_the_user(tmp_path):
    save_to = tmp_path / 'photo.png'
    write_regions(save_to, IDS)
    assert is_ours(save_to) and np.asarray(Image.open(save_to)).tolist() == IDS.tolist()
    Image.fromarray(IDS.astype(np.uint16)).save(save_to)
    with pytest.raises(OSError, match='was not written by mmseg_sclip'):
        write_regions(save_to, IDS)
    with pytest.raises(ConfigError, match='up to 65535, not 70000'):
        write_regions(tmp_path / 'b.png', np.array([[70000]]))
