"""Own pictures, own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image

from ..config import find_device
from ..datasets.palette import as_colours, classes_of
from ..datasets.pipelines import bands_of, choose_bands
from ..engine.loading import build_model
from ..errors import ConfigError
from ..images import pack_photograph
from ..models.image.scores import bands
from ..models.refinements.base import CLASS_SCORES
from ..models.segmentors import SCLIPSegmentor
from ..models.text import Vocabulary
from ..notes import Note, say
from .inputs import Picture, list_pictures, read_picture
from .settings import build_config, thresholds
from .words import AUTO, NONE, Background, Classes, read_words
from .writing import ResultWriter

MOST_CLASSES = 255  # in a label map of 8 bits, where 255 means no label to MMSegmentation
SAME = 'same'  # the background that the inferencer was made with


class SCLIPInferencer:
    """Segment your own pictures into your own words, through the code path of the evaluation.

    `SCLIPInferencer(classes=['cat', ['sofa', 'couch'], 'remote control'])('photo.jpg', out_dir='out')`

    Weights are loaded once, and pictures are processed one at a time. The text tower stays in memory, so that the words
    can change from call to call; words belong to the call, so that several threads may call with different ones. The
    settings are those of SCLIP for Pascal VOC: pictures have a short side of 336 pixels, and with a background its
    logit scale and thresholds of the shipped config `sclip_voc21` are used: a pixel whose best class has a probability
    below 0.1 becomes background, and so does a class that covers less than a tenth of the foreground.
    `cfg_options={'model.test_cfg.area_thd': None}` keeps such small things. Without a background there are no
    thresholds (`sclip_voc20`).

    Args:
        classes: A list of names or lists of synonyms, or a vocabulary; see `read_words`. None for those of `config`.
        background: 'auto' for SCLIP's 26 words without those that the classes name, a list of phrases, or None or
            'none' for no background.
        model_name: CLIP's architecture; None for the config's, which is ViT-B-16-quickgelu.
        pretrained: Tag or file of CLIP's weights; None for the config's, which is openai.
        attention: Attention in the last block: what `parse_attention` reads, such as 'CLIP', or a config; None for the
            config's, which is SCLIP's.
        pamr: Steps of PAMR refinement, 0 for off; None for the config's, which is off.
        device: 'cpu', 'cuda', ...; None for a GPU where there is one.
        config: Name of a shipped config, or the path of one. Its model and pipeline are taken, and without `classes`
            also its classes, their colours, and its background.
        channel_order: 'rgb' or 'bgr', of pictures that are given as arrays.
        cfg_options: Settings of the config to override, by dotted names.
        bands: Which bands of picture files are red, green and blue, or the one that is grey, from 1; None for the
            files' own colours, or their first three bands.
        weights: Files of weights by the names of the networks, such as dict(dino='dino.pth') for the companion
            `dino`; see `mmseg-sclip weights`.

    Attributes:
        model: The segmentor, with the words of a call without `classes`.
        words: These words, a `Vocabulary`.
        colours: RGB of each of their classes.

    Raises:
        ConfigError: The words or the settings are wrong; the message says how.
        MissingFileError: Weights, the config or the vocabulary are missing.
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
        bands: Sequence[int] | None = None,
        weights: Mapping[str, str | Path] | None = None,
    ) -> None:
        self.channel_order = channel_order
        self._said: set[str] = set()
        words = None if classes is None else read_words(classes, background)  # errors before weights are loaded
        if words is None and config is None:
            raise ConfigError("Give classes=['cat', ...], or a config whose classes are to be found.")
        if words is None and background != AUTO:
            raise ConfigError(
                f'background={background!r} belongs to classes of your own, but these are those of {config}, which '
                'says itself whether there is a background. Leave it out, or give classes.'
            )
        device = find_device(None if device is None else str(device))
        built = build_config(words, config, model_name, pretrained, attention, pamr, cfg_options, weights)
        choose_bands(built, bands)
        self._bands = bands_of(built)
        self._thresholds = {flag: thresholds(flag, config, cfg_options) for flag in (False, True)}
        self._steps = built.test_dataloader.dataset.pipeline
        self.model = build_model(built, device)
        head = self.model.decode_head
        head.text_encoder.keep = True  # the words may change from call to call
        if words is None:
            names = tuple(head.dataset_meta['classes'])
            words = replace(head.vocabulary, class_names=names, background_index=head.background_index)
            background = NONE if head.background_index is None else AUTO  # of calls with classes
            _, self.colours = classes_of(built.test_dataloader.dataset, head.dataset_meta)
        else:
            self.colours = as_colours(head.dataset_meta['palette'])
        self.words, self._classes, self._background = words, classes, background
        self._encode(self.model)

    def __call__(
        self,
        image: Any,
        out_dir: str | Path | None = None,
        return_scores: bool = False,
        classes: Classes | None = None,
        heatmaps: bool = False,
        channel_order: str | None = None,
        background: Background = SAME,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """Segment pictures.

        Args:
            image: A file, an array (H, W, 3) or a Pillow image; or a folder, a glob or a list of these.
            out_dir: Write `STEM.png` (labels), `STEM_overlay.png` and `summary.json` to this folder, and with
                `heatmaps` also `STEM_heat_N.png` for each phrase, N counting from 1 through the phrases of all
                classes in label order.
            return_scores: Give the class scores too.
            classes: Words for this call only; None for the inferencer's.
            heatmaps: Give the probability of each phrase too.
            channel_order: 'rgb' or 'bgr', of arrays; by default the inferencer's.
            background: As in the class, for this call only; 'same' for the inferencer's.

        Returns:
            For a file, an array or a Pillow image a dict, else a list of them:

            - `image`: the path, or None;
            - `labels`: (H, W) at the original size (upright), uint8, or uint16 beyond 255 classes;
            - `names`, `phrases`, `colours` (RGB) and `coverage` (percent of the pixels): of each class, in the order
              of the labels, the background first where there is one;
            - `scores`: (C, H, W), float32, where they are asked for: the largest probability of the class's phrases,
              after the area threshold;
            - `heatmaps`: (Q, H, W), float32, where they are asked for: the probability, among all phrases, of each
              phrase of each class, in this order, or the phrase's score where the head makes no probabilities. The
              largest of a class is its score before the area threshold. A refinement of class scores, such as
              DenseCRF, treats each phrase as a class without a background here;
            - `files`: names of the files in `out_dir`.

        Raises:
            MissingFileError: A picture is missing.
            BadFileError: A picture is damaged. What was done before is in `out_dir`.
            OutputError: A file cannot be written.
            ConfigError: An argument is wrong.
        """
        results = list(self.stream(image, out_dir, return_scores, classes, heatmaps, channel_order, background))
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
        background: Background = SAME,
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
            background: As in a call.
            on_error: Called with a picture that cannot be segmented, and the reason; then the next one follows. None
                raises.
        """
        model, words, colours = self._with_words(classes, background, return_scores)
        if out_dir is not None and words.num_classes > MOST_CLASSES:
            raise ConfigError(
                f'There are {words.num_classes} classes, but label maps are written with at most {MOST_CLASSES}. Leave '
                'out_dir out and take the labels from the result, or name fewer classes.'
            )
        pictures = list_pictures(image)
        writer = None if out_dir is None else ResultWriter(out_dir, pictures)
        try:
            for picture in pictures:
                try:
                    notes: list[Note] = []
                    rgb = read_picture(picture, channel_order or self.channel_order, self._bands, notes)
                    say(notes, self._said)
                    path = picture if isinstance(picture, str) else None
                    result = dict(image=path, **self._segment(model, words, rgb, path, heatmaps))
                except Exception as error:
                    if on_error is None:
                        raise
                    on_error(picture, error)
                    continue
                result['colours'] = list(colours)
                if writer is not None:
                    result['files'] = writer.write(result, rgb)
                yield result
        finally:
            if writer is not None:
                writer.write_summary()

    def _with_words(
        self, classes: Classes | None, background: Background, return_scores: bool
    ) -> tuple[SCLIPSegmentor, Vocabulary, list[tuple[int, int, int]]]:
        """The segmentor with the words of a call, these words, and their colours."""
        if classes is None and background != SAME and self._classes is None:
            raise ConfigError(
                f'background={background!r} belongs to classes of your own, but the inferencer has those of its '
                'config. Leave it out, or give classes.'
            )
        words = self.words
        if classes is not None or background != SAME:
            words = read_words(
                self._classes if classes is None else classes, self._background if background == SAME else background
            )
        same = words == self.words
        if same and not return_scores:
            return self.model, self.words, self.colours
        settings = {} if same else self._thresholds[words.background_index is not None]
        model = self.model.with_vocabulary(
            list(words.classes), list(words.class_names), words.background_index, keep_scores=return_scores, **settings
        )
        if same:
            model.decode_head.text_bank = self.model.decode_head.text_bank
        self._encode(model)
        return model, words, self.colours if same else as_colours(model.dataset_meta['palette'])

    @torch.no_grad()
    def _segment(
        self,
        model: SCLIPSegmentor,
        words: Vocabulary,
        rgb: np.ndarray,
        path: str | None,
        heatmaps: bool,
    ) -> dict[str, Any]:
        """The result of one picture (H, W, 3), without its path and colours."""
        packed = pack_photograph(self._steps, rgb, path or 'The array')
        data = model.data_preprocessor(pseudo_collate([packed]), False)
        (image,), (sample,) = data['inputs'], data['data_samples']
        (cosines,) = model.score([image], [sample])
        model.label(cosines, image, sample)
        count = words.num_classes
        labels = sample.pred_sem_seg.data[0].cpu().numpy()
        result = dict(
            labels=labels.astype(np.uint8 if count <= MOST_CLASSES else np.uint16),
            names=list(words.class_names),
            phrases=[list(group) for group in words.classes],
            coverage=(100 * np.bincount(labels.ravel(), minlength=count) / labels.size).tolist(),
        )
        if model.test_cfg.keep_scores:
            result['scores'] = sample.seg_logits.data.float().cpu().numpy()
        if heatmaps:
            each = model
            if any(refinement.stage == CLASS_SCORES for refinement in model.refinements):
                phrases = [[phrase] for group in words.classes for phrase in group]
                each = model.with_vocabulary(phrases, prob_thd=None, area_thd=None)
            scores = each.class_scores(cosines, image, sample)
            heat = torch.cat([scores.part_band(*band) for band in bands(scores.parts)], dim=1)
            result['heatmaps'] = heat.float().cpu().numpy()
        return result

    @staticmethod
    def _encode(model: SCLIPSegmentor) -> None:
        """Encode the words now, so that a phrase that is too long is not blamed on the first picture."""
        model.decode_head.encode_vocabulary(next(model.parameters()).device)
