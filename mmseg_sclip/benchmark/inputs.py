"""What a benchmark runs on: images, weights, and the model of a config."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS, TRANSFORMS
from safetensors.torch import save_file

from ..models import SCLIPSegmentor
from ..models.clip import ClipSource
from ..models.clip.config import SCHEMAS

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
# A usual size (height, width) of the photographs of each dataset.
_SIZES = dict(
    ADE20KDataset=(512, 683),
    COCOStuffDataset=(480, 640),
    COCOObjectDataset=(480, 640),
    CityscapesDataset=(1024, 2048),
    PaintedScenesDataset=(128, 128),
)
_SIZE = (375, 500)  # Pascal's


def usual_size(config: Config) -> tuple[int, int]:
    """(height, width) of the images that a config is for."""
    dataset = config.test_dataloader.dataset
    side = dataset.get('size')
    return (side, side) if isinstance(side, int) else _SIZES.get(str(dataset.type), _SIZE)


def find_images(folder: Path, number: int) -> list[Path]:
    """The first images of a folder, by name.

    Raises:
        FileNotFoundError: The folder is missing or holds none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f'--images {folder} is no folder. Name a folder with photographs, or leave --images out.'
        )
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f'--images {folder} holds no image ({", ".join(SUFFIXES)}).')
    return found[:number]


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


def dataset_items(config: Config, number: int) -> list[Item]:
    """The first images of the config's own dataset; none where its files are not there."""
    try:
        dataset = DATASETS.build(config.test_dataloader.dataset)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = [dataset.get_data_info(index).get('img_path', '') for index in range(min(number, len(dataset)))]
    if not all(Path(name).is_file() for name in names):
        return []
    return [_item(name, partial(dataset.__getitem__, index)) for index, name in enumerate(names)]


def file_items(
    config: Config, sources: Sequence[Path], size: tuple[int, int] | None, number: int, folder: Path
) -> list[Item]:
    """Photographs, of one size where one is asked for; patterns where there are none.

    Args:
        config: Its test pipeline is used, without the ground truth.
        sources: Files; empty for patterns.
        size: (height, width) in pixels; None keeps that of the files.
        number: How many patterns.
        folder: For what is written.

    Raises:
        ValueError: A file cannot be decoded.
    """
    steps = [step for step in config.test_dataloader.dataset.pipeline if step['type'] != 'LoadAnnotations']
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])
    if not sources or size is not None:
        sources = _resized(sources, size or _SIZE, number, folder)
    load = lambda path: pipeline(dict(img_path=str(path), reduce_zero_label=False, seg_fields=[]))  # noqa: E731
    return [_item(str(path), partial(load, path)) for path in sources]


def _item(name: str, load: Callable[[], dict]) -> Item:
    return Item(name, tuple(load()['data_samples'].ori_shape[:2]), load)


def _resized(sources: Sequence[Path], size: tuple[int, int], number: int, folder: Path) -> list[Path]:
    written = []
    for index in range(len(sources) or number):
        if sources:
            picture = cv2.imread(str(sources[index]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            if picture is None:
                raise ValueError(f'{sources[index]} cannot be decoded as an image. Take it out of the folder.')
        else:
            picture = np.random.default_rng(index).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        written.append(folder / f'{size[0]}x{size[1]}_{index}.jpg')
        cv2.imwrite(str(written[-1]), cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC))
    return written


def write_random_weights(clip: dict, folder: Path) -> dict:
    """A `clip` entry with a weights file of random numbers, always the same ones.

    Raises:
        ValueError: The model brings its own weights.
    """
    if clip['model_name'].startswith(SCHEMAS):
        raise ValueError(
            f'--random-weights is for architectures, but {clip["model_name"]} brings its weights. Leave the flag out.'
        )
    path = folder / f'{clip["model_name"].replace("/", "-")}.safetensors'
    if not path.is_file():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = ClipSource({**clip, 'pretrained': None}).random_weights()
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    return {**clip, 'pretrained': str(path)}


def build_model(config: Config, precision: str, device: torch.device) -> SCLIPSegmentor:
    """The config's model, ready to predict."""
    entry = copy.deepcopy(config.model)
    entry.clip.precision = precision
    model = MODELS.build(entry)
    model.cfg = config
    return model.to(device).eval()
