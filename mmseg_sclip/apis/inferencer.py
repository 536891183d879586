"""Own pictures, own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image

from ..cli.configuring import find_device
from .inputs import Picture, list_pictures
from .photographs import array_to_rgb, picture_to_rgb, read_photograph
from .scores import each_phrase_a_class, keeping_scores
from .settings import build_config, steps_behind_loading
from .words import AUTO, Background, Classes, Words, colours_of, read_words
from .writing import ResultWriter

MOST_CLASSES = 255  # of a label map with 8 bits, in which MMSeg's 255 stands for no label


class SCLIPInferencer(BaseInferencer):
    """Segment your own pictures into your own words, through the code path of the evaluation.

    `SCLIPInferencer(classes=['cat', ['sofa', 'couch'], 'remote control'])('photo.jpg', out_dir='out')`

    Weights are loaded once, and pictures are processed one at a time. The text tower stays in memory, so that the words
    can change from call to call. The settings are those of SCLIP for Pascal VOC: pictures have a short side of 336
    pixels, and with a background its logit scale and thresholds of the shipped config `sclip_voc21` are used: a pixel
    whose best class has a probability below 0.1 becomes background, and so does a class that covers less than a
    tenth of the foreground. `cfg_options={'model.test_cfg.area_thd': None}` keeps such small things. Without a
    background there are no thresholds (`sclip_voc20`).

    Args:
        classes: A list of names or lists of synonyms, or a vocabulary; see `read_words`. None for those of `config`.
        background: 'auto' for SCLIP's 26 words without those that the classes name, a list of phrases, or None.
        model_name: CLIP's architecture; None for the config's, which is ViT-B-16-quickgelu.
        pretrained: Tag or file of CLIP's weights; None for the config's, which is openai.
        attention: Name or config of the attention in the last block; None for the config's, which is SCLIP's.
        pamr: Steps of PAMR refinement, 0 for off; None for the config's, which is off.
        device: 'cpu', 'cuda', ...; None for a GPU where there is one.
        config: Name of a shipped config, or the path of one. Its model and pipeline are taken, and without `classes`
            also its classes, their colours, and its background.
        channel_order: 'rgb' or 'bgr', of pictures that are given as arrays.
        cfg_options: Settings of the config to override, by dotted names.

    Attributes:
        words: The classes that a call without `classes` has.
        colours: RGB of each of them.

    Raises:
        ValueError: The words or the settings are wrong; the message says how.
        FileNotFoundError: Weights, the config or the vocabulary are missing.
        UsageError: This machine has no such device.
    """

    def __init__(
        self,
        classes: Classes | None = None,
        background: Background = AUTO,
        model_name: str | None = None,
        pretrained: str | None = None,
        attention: str | Mapping | None = None,
        pamr: int | None = None,
        device: str | None = None,
        config: str | Path | None = None,
        channel_order: str | None = None,
        cfg_options: Mapping | None = None,
    ) -> None:
        self.channel_order = channel_order
        self._background = background
        words = None if classes is None else read_words(classes, background)  # errors before weights are loaded
        if words is None and config is None:
            raise ValueError("Give classes=['cat', ...], or a config whose classes are to be found.")
        if words is None and background != AUTO:
            raise ValueError(
                f'background={background!r} belongs to classes of your own, but these are those of {config}, which '
                'says itself whether there is a background. Leave it out, or give classes.'
            )
        device = find_device(None if device is None else str(device))
        built = build_config(words, config, model_name, pretrained, attention, pamr, cfg_options)
        init_default_scope('mmseg')
        super().__init__(built, device=None if device is None else str(device), scope='mmseg', show_progress=False)
        self.words = self._words_of_model() if words is None else words
        self.colours = self._colours_of_model() if words is None else colours_of(words)
        if words is None:  # for calls with classes
            self._background = None if self.words.background_index is None else AUTO
        self._in_model: Words | None = self.words
        self._encode()

    def __call__(
        self,
        image: Any,
        out_dir: str | Path | None = None,
        return_scores: bool = False,
        classes: Classes | None = None,
        heatmaps: bool = False,
        channel_order: str | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Segment pictures.

        Args:
            image: A file, an array (H, W, 3) or a Pillow image; or a folder, a glob or a list of these.
            out_dir: Write `STEM.png` (labels), `STEM_overlay.png` and `summary.json` to this folder.
            return_scores: Give the class scores too.
            classes: Words for this call only, with the background that the inferencer was made with.
            heatmaps: Also write `STEM_heat_N.png` for each phrase, N counting from 1 through the phrases of all
                classes in label order: its probability among all phrases, from 0 to 1. Takes a second forward.
            channel_order: 'rgb' or 'bgr', of arrays; by default the inferencer's.

        Returns:
            For a file, an array or a Pillow image a dict, else a list of them:

            - `image`: the path, or None;
            - `labels`: (H, W) at the original size (upright), uint8, or uint16 beyond 255 classes;
            - `names`, `phrases`, `colours` (RGB) and `coverage` (percent of the pixels): of each class, in the order
              of the labels, the background first where there is one;
            - `scores`: (C, H, W), float32, where they are asked for: the largest probability of the class's phrases,
              after the area threshold;
            - `files`: names of the files in `out_dir`.

        Raises:
            FileNotFoundError: A picture is missing.
            OSError: A picture is damaged, or a file cannot be written. What was done before is in `out_dir`.
            ValueError: An argument is wrong.
        """
        results = list(self.stream(image, out_dir, return_scores, classes, heatmaps, channel_order))
        one = isinstance(image, (np.ndarray, Image.Image)) or (
            isinstance(image, (str, Path)) and Path(image).expanduser().is_file()
        )
        return results[0] if one else results

    def stream(
        self,
        image: Any,
        out_dir: str | Path | None = None,
        return_scores: bool = False,
        classes: Classes | None = None,
        heatmaps: bool = False,
        channel_order: str | None = None,
        on_error: Callable[[Picture, Exception], None] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """As a call, but one result after the other, for more pictures than fit into memory.

        Args:
            image: As in a call, like all that is not listed here.
            out_dir: Its `summary.json` is complete when the iteration ends, in whatever way.
            return_scores: As in a call.
            classes: As in a call.
            heatmaps: As in a call.
            channel_order: As in a call.
            on_error: Called with a picture that cannot be segmented, and the reason; then the next one follows. None
                raises.
        """
        words, colours = self.words, self.colours
        if classes is not None:
            words = read_words(classes, self._background)
            colours = colours_of(words)
        if out_dir is not None and len(words.names) > MOST_CLASSES:
            raise ValueError(
                f'There are {len(words.names)} classes, but label maps are written with at most {MOST_CLASSES}. Leave '
                'out_dir out and take the labels from the result, or name fewer classes.'
            )
        if heatmaps and out_dir is None:
            raise ValueError('heatmaps=True writes pictures: give out_dir, the folder that they go to.')
        pictures = list_pictures(image)
        writer = None if out_dir is None else ResultWriter(out_dir, pictures)
        try:
            for picture in pictures:
                self._set_words(words)
                try:
                    rgb = self._read(picture, channel_order or self.channel_order)
                    result, heat = self._segment(picture, rgb, colours, return_scores, heatmaps)
                except Exception as error:
                    if on_error is None:
                        raise
                    on_error(picture, error)
                    continue
                if writer is not None:
                    result['files'] = writer.write(result, rgb, heat)
                yield result
        finally:
            if writer is not None:
                writer.write_summary()

    def visualize(self, inputs: list, preds: Any, show: bool = False, **kwargs) -> list[np.ndarray]:
        """Not used: pictures are drawn by `ResultWriter`, with the user's names and colours."""
        raise NotImplementedError('SCLIPInferencer draws when it is called with out_dir.')

    def postprocess(self, preds: Any, visualization: Any, return_datasample: bool = False, **kwargs) -> dict:
        """Not used: see `__call__`."""
        raise NotImplementedError('SCLIPInferencer gives results when it is called.')

    def _segment(
        self, picture: Picture, rgb: np.ndarray, colours: Sequence, return_scores: bool, heatmaps: bool
    ) -> tuple[dict[str, Any], np.ndarray | None]:
        """The result of one picture, and the probabilities of its phrases (Q, H, W) where they are asked for."""
        path = picture if isinstance(picture, str) else None
        loaded = dict(img=np.ascontiguousarray(rgb[..., ::-1]), img_path=path or 'The array')  # BGR, as MMCV loads
        loaded['img_shape'] = loaded['ori_shape'] = rgb.shape[:2]
        data = self.collate_fn([self.pipeline(loaded)])
        words = self._in_model
        with keeping_scores(self.model, return_scores):
            sample = self.forward(data)[0]
        count = len(words.names)
        labels = sample.pred_sem_seg.data[0].cpu().numpy()
        pixels = np.bincount(labels.ravel(), minlength=count)
        result = dict(
            image=path,
            labels=labels.astype(np.uint8 if count <= MOST_CLASSES else np.uint16),
            names=list(words.names),
            phrases=[list(group) for group in words.phrases],
            colours=[tuple(colour) for colour in colours],
            coverage=(100 * pixels / labels.size).tolist(),
        )
        if return_scores:
            result['scores'] = sample.seg_logits.data.float().cpu().numpy()
        if not heatmaps:
            return result, None
        with each_phrase_a_class(self.model), keeping_scores(self.model, True):
            return result, self.forward(data)[0].seg_logits.data.float().cpu().numpy()

    def _read(self, picture: Picture, channel_order: str | None) -> np.ndarray:
        if isinstance(picture, str):
            return read_photograph(picture)
        if isinstance(picture, Image.Image):
            return picture_to_rgb(picture)
        return array_to_rgb(picture, channel_order)

    def _set_words(self, words: Words) -> None:
        if words != self._in_model:
            self._in_model = None  # until all is well
            self.model.set_vocabulary(list(words.phrases), list(words.names), words.background_index)
            self._encode()
            self._in_model = words

    def _encode(self) -> None:
        """Now, since a phrase that is too long is no fault of the first picture."""
        self.model.decode_head.encode_vocabulary(next(self.model.parameters()).device)

    def _words_of_model(self) -> Words:
        head = self.model.decode_head
        return Words(tuple(head.dataset_meta['classes']), head.vocabulary.classes, head.background_index)

    def _colours_of_model(self) -> list[tuple[int, int, int]]:
        """Those of the config's dataset, where it has these classes."""
        if isinstance(self.cfg.model.decode_head.get('class_names'), str):
            palette = self.model.dataset_meta['palette']
        else:
            dataset = self.cfg.test_dataloader.dataset.type
            meta = getattr(DATASETS.get(dataset) if isinstance(dataset, str) else dataset, 'METAINFO', {})
            same = tuple(meta.get('classes') or ()) == self.words.names
            palette = same and meta.get('palette') or colours_of(self.words)
        return [tuple(int(value) for value in colour) for colour in palette]

    def _load_weights_to_model(self, model: torch.nn.Module, checkpoint: Mapping | None, cfg: Config | None) -> None:
        """CLIP's weights are in the model when it is built; MMSeg's inferencer would name its classes Cityscapes'."""

    def _init_pipeline(self, cfg: Config) -> Compose:
        """The config's test pipeline, for pictures that are read already."""
        return Compose(steps_behind_loading(cfg.test_dataloader.dataset.pipeline))

    def _init_collate(self, cfg: Config) -> Callable:
        """MMEngine's, which it would find only with a warning."""
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        """None: MMSeg's would label the pictures itself."""
