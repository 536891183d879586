"""What a benchmark runs on: images, weights, and the model of a config."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from safetensors.torch import save_file

from mmseg_sclip.datasets.check_files import check_files
from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError, UserError
from mmseg_sclip.images import pack_without_truth, readable_suffixes
from mmseg_sclip.models import SCLIPSegmentor
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.clip.config import SCHEMAS
from mmseg_sclip.models.companions import RegionMaps
from mmseg_sclip.models.companions.base import build_companions

# A usual size (height, width) of the photographs of each dataset.
_SIZES = dict(
    ADE20KDataset=(512, 683),
    COCOStuffDataset=(480, 640),
    COCOObjectDataset=(480, 640),
    CityscapesDataset=(1024, 2048),
    PaintedScenesDataset=(192, 192),
)
_SIZE = (375, 500)  # Pascal's


@dataclass(frozen=True)
class Item:
    """An image on its way into the network.

    Attributes:
        name: For messages.
        size: (height, width) of the file in pixels.
        load: Reads and resizes it: `inputs` (3, H, W) and `data_samples`, with ground truth where there is one.
    """

    name: str
    size: tuple[int, int]
    load: Callable[[], dict]


def find_items(
    config: Config, images: Path | None, size: tuple[int, int] | None, number: int, folder: Path
) -> list[Item]:
    """The first images of a folder, else of the config's own dataset, else coloured patterns.

    Args:
        config: Its test pipeline is used; ground truth where the images are the dataset's, as they are.
        images: A folder of photographs.
        size: (height, width) to resize to; None keeps the files' own.
        number: How many.
        folder: For what is written.

    Raises:
        MissingFileError: `images` is not a folder, or holds no image.
        BadFileError: A file cannot be decoded.
    """
    files = [] if images is None else find_images(images)[:number]
    own = [] if files else _dataset_items(config, number)
    if own and size is None:
        return own
    files = files or [Path(item.name) for item in own]
    if size is not None or not files:
        files = _resized(files, size or _SIZES.get(str(config.test_dataloader.dataset.type), _SIZE), number, folder)
    pipeline = config.test_dataloader.dataset.pipeline
    # What MMSeg's datasets tell their pipelines beside the path.
    infos = [dict(img_path=str(path), reduce_zero_label=False, seg_fields=[]) for path in files]
    return [_item(info['img_path'], partial(pack_without_truth, pipeline, info)) for info in infos]


def find_images(folder: Path) -> list[Path]:
    """The images of a folder, by name.

    Raises:
        MissingFileError: The folder is missing or holds none.
    """
    if not folder.is_dir():
        raise MissingFileError(f'--images {folder} is not a folder. Name a folder with photographs, or leave it out.')
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in readable_suffixes())
    if not files:
        raise MissingFileError(f'--images {folder} holds no image ({", ".join(readable_suffixes())}).')
    return files


def _dataset_items(config: Config, number: int) -> list[Item]:
    """The first images of the config's own dataset; none where its files are not there."""
    try:
        check_files(config.test_dataloader.dataset)
        dataset = DATASETS.build(config.test_dataloader.dataset)
        names = [dataset.get_data_info(index)['img_path'] for index in range(min(number, len(dataset)))]
    except (FileNotFoundError, NotADirectoryError, UserError):
        return []
    there = all(Path(name).is_file() for name in names)
    return [_item(name, partial(dataset.__getitem__, index)) for index, name in enumerate(names)] if there else []


def _item(name: str, load: Callable[[], dict]) -> Item:
    return Item(name, tuple(load()['data_samples'].ori_shape[:2]), load)


def _resized(files: Sequence[Path], size: tuple[int, int], number: int, folder: Path) -> list[Path]:
    written = []
    for index in range(len(files) or number):
        if files:
            picture = cv2.imread(str(files[index]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            if picture is None:
                raise BadFileError(f'{files[index]} cannot be decoded as an image. Take it out of the folder.')
        else:
            picture = np.random.default_rng(index).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        written.append(folder / f'{size[0]}x{size[1]}_{index}.jpg')
        cv2.imwrite(str(written[-1]), cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC))
    return written


def write_random_weights(clip: dict, folder: Path) -> dict:
    """A `clip` entry with a weights file of random numbers, always the same ones.

    Raises:
        ConfigError: The model brings its own weights.
    """
    if clip['model_name'].startswith(SCHEMAS):
        raise ConfigError(
            f'--random-weights is for architectures, but {clip["model_name"]} brings its weights. Leave the flag out.'
        )
    path = folder / f'{clip["model_name"].replace("/", "-")}.safetensors'
    if not path.is_file():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = ClipSource(**{**clip, 'pretrained': None}).random_weights()
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    return {**clip, 'pretrained': str(path)}


def without_weights(companions: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """Configs of second networks with random weights, always the same ones, and of regions that need no files."""
    found = {}
    for name, companion in build_companions(companions).items():
        if isinstance(companion, RegionMaps):
            found[name] = dict(type='ColourRegions')
        else:
            found[name] = {**companions[name], **({} if companion.pretrained is None else {'pretrained': None})}
    return found


def build_model(config: Config, precision: str, device: torch.device) -> SCLIPSegmentor:
    """The config's model, ready to predict."""
    entry = copy.deepcopy(config.model)
    entry.clip.precision = precision
    return MODELS.build(entry).to(device).eval()
