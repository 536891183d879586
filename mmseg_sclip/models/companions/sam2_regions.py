"""Regions that SAM 2 finds, through Hugging Face's transformers."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from mmseg.registry import MODELS
from PIL import Image
from torch import Tensor

from ...errors import BadFileError, ConfigError
from ...rules import AtLeast
from ..clip.hugging_face import import_transformers
from ..pretrained import Pretrained
from ..record import Source
from .region_files import read_regions, write_regions
from .regions import RegionMaps, image_name, pixels_of

RELEASED = 'facebook/sam2.1-hiera-large'
_WEIGHTS, _CONFIG = 'model.safetensors', 'config.json'


@MODELS.register_module()
class Sam2Regions(RegionMaps):
    """Every place of an image is of the smallest mask that SAM 2 finds there, prompted with a grid of points.

    Masks are painted from the largest to the smallest, so that none hides a smaller one; the order of CorrCLIP's own
    generator is not published. Places without a mask have no region. The thresholds are those of SAM 2's own generator
    of masks. This takes many times as long as all the rest, so the regions can be kept for later runs.

    SAM 2 sees the image as it was loaded, where the pipeline keeps it (`KeepOriginal`), or else the network's input.

    Args:
        model: ORG/REPO on the Hugging Face hub, or a folder as transformers saves it, with model.safetensors and
            config.json, or that file in it.
        points: On each side of the grid.
        score: Least quality that the network ascribes to a mask.
        stability: Least overlap of a mask with itself at a higher and a lower threshold.
        overlap: Of two masks whose boxes overlap more than that, the better one stays.
        points_at_once: How many go through the network together.
        cache_folder: A folder for region maps, of which each set of settings has one of its own; None keeps none.
            `RegionFiles` reads them, too.
    """

    def __init__(
        self,
        model: str = RELEASED,
        points: Annotated[int, AtLeast(1)] = 32,
        score: float = 0.8,
        stability: float = 0.95,
        overlap: float = 0.7,
        points_at_once: Annotated[int, AtLeast(1)] = 64,
        cache_folder: str | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.points = points
        self.score = score
        self.stability = stability
        self.overlap = overlap
        self.points_at_once = points_at_once
        self.cache_folder = None if cache_folder is None else Path(cache_folder).expanduser()
        self.network: Any = None

    @property
    def pretrained(self) -> Pretrained:
        """See `Companion.pretrained`."""
        return self._file(_WEIGHTS)

    def load(self, weights: bool = True) -> None:
        """See `Companion.load`; without weights there is no network, since what it costs is no cost of windows."""
        if not weights:
            return
        transformers = import_transformers('Sam2Regions', 'Sam2Model')
        path = self.pretrained.fetch()
        self._file(_CONFIG).fetch()  # which lies beside it
        try:
            network, report = transformers.Sam2Model.from_pretrained(
                path.parent, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # transformers and safetensors raise many kinds
            raise BadFileError(f'{path.parent} holds no SAM 2 that transformers can read ({error}).') from error
        lacking = [*report['missing_keys'], *(key for key, *_ in report['mismatched_keys'])]
        if lacking:
            raise BadFileError(
                f'{path} lacks {len(lacking)} weights of SAM 2, such as {lacking[0]}. Fetch {RELEASED} again.'
            )
        self.network = network.eval()

    def regions(self, source: Source, network: Any) -> Tensor:
        """See `RegionMaps.regions`."""
        if self.cache_folder is None:
            return self._find(source, network)
        path = self.folder / f'{_stem(source)}.png'
        name = str(source.meta['img_path'])
        if path.is_file():
            with Image.open(path) as picture:
                made_of = getattr(picture, 'text', {}).get('Source', name)
            if made_of != name:
                raise ConfigError(
                    f'{path} has the regions of {made_of}, but those of {name} would have the same name. Give '
                    'Sam2Regions another cache_folder for these images.'
                )
            return torch.from_numpy(read_regions(path))
        found = self._find(source, network)
        write_regions(path, found.cpu().numpy(), Source=name)
        return found

    @property
    def folder(self) -> Path:
        """The folder in `cache_folder` of regions that are found with these weights and settings.

        Raises:
            ConfigError: There is no `cache_folder`.
        """
        if self.cache_folder is None:
            raise ConfigError('Sam2Regions has no cache_folder.')
        settings = [self.pretrained.identity()['sha256'], self.points, self.score, self.stability, self.overlap]
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        return self.cache_folder / f'{Path(self.model).name}-{digest[:8]}'

    @torch.no_grad()
    def _find(self, source: Source, network: Any) -> Tensor:
        transformers = import_transformers('Sam2Regions', 'Sam2Model')
        pixels = pixels_of(source, network).permute(1, 2, 0).cpu().numpy()
        side = self.network.config.prompt_encoder_config.image_size
        processor = transformers.Sam2ImageProcessor(size=dict(height=side, width=side))
        generator = transformers.MaskGenerationPipeline(
            model=self.network, image_processor=processor, device=self.network.device
        )
        found = generator(
            Image.fromarray(pixels),
            points_per_crop=self.points,
            points_per_batch=self.points_at_once,
            pred_iou_thresh=self.score,
            stability_score_thresh=self.stability,
            crops_nms_thresh=self.overlap,
        )
        return paint([torch.as_tensor(mask) for mask in found['masks']], pixels.shape[:2])

    def _file(self, name: str) -> Pretrained:
        folder = Path(self.model).expanduser()
        folder = folder.parent if folder.is_file() else folder
        on_hub = re.fullmatch(r'[\w.-]+/[\w.-]+', self.model) and not folder.is_dir()
        return Pretrained(
            what=f'SAM 2 ({self.model})',
            setting='model',
            given=None if on_hub else str(folder / name),
            names=[f'{self.model}/{name}'],
            repository=self.model if on_hub else None,
            hub_names=[name],
            published=f'huggingface.co/{self.model if on_hub else RELEASED}',
            licence='Apache-2.0',
            size=898 if self.model == RELEASED else None,
        )


def paint(masks: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Regions (H, W), int64, of masks (H, W), bool: from 1 on, smaller ones over larger ones; 0 where there is none."""
    regions = torch.zeros(size, dtype=torch.int64)
    areas = np.array([int(mask.sum()) for mask in masks])
    for number, index in enumerate(np.argsort(-areas, kind='stable'), 1):
        regions[masks[index].to(regions.device, torch.bool)] = number
    return regions


def _stem(source: Source) -> str:
    if not source.meta.get('img_path'):
        raise ConfigError(
            f'Sam2Regions keeps regions by the name of the image file, but this is {image_name(source)}. Set '
            'cache_folder=None.'
        )
    return Path(source.meta['img_path']).stem
