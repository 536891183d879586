"""Running the refinements of a segmentor over whole maps of scores."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.models import EncoderDecoder
from torch import Tensor

from ..image.geometry import Placement, restore_image
from ..image.scores import ClassScores, InputScores, MapScores, PixelScores, Scores
from ..record import Source
from ..refinements.base import LABELS, ImageView


def refine(
    model: EncoderDecoder, stage: str, scores: PixelScores | ClassScores, source: PixelScores, image: Tensor
) -> Scores:
    """Scores after the refinements of a stage.

    Args:
        model: The segmentor, whose refinements are run.
        stage: Theirs, see `Refinement`.
        scores: Of that stage.
        source: Of `SCLIPSegmentor.score`, with what the refinements have seen.
        image: (3, H', W'), the image as it went through the network, normalised.
    """
    numbers = [number for number, refinement in enumerate(model.refinements) if refinement.stage == stage]
    at_input = [number for number in numbers if model.refinements[number].at_input]
    numbers = [number for number in numbers if number not in at_input]
    if at_input:
        scores = _refine_at_input(model, at_input, source, image)
    if not numbers:
        return scores
    assert source.placement is not None
    guide = restore_image(image, source.placement.axes)
    maps = scores.phrases()
    for number in numbers:
        seen = source.seen[number] if source.seen else None
        view = ImageView(guide, model.decode_head, model.data_preprocessor, source.placement, seen)
        maps = model.refinements[number].refine(maps, view)
    return MapScores(maps, getattr(scores, 'queries', None))


def _refine_at_input(model: EncoderDecoder, numbers: Sequence[int], source: PixelScores, image: Tensor) -> PixelScores:
    """Scores after the refinements with these numbers, which work at the size of the network's input."""
    assert source.placement is not None
    placement = source.placement.at_input()
    maps = source.moved(placement).phrases()
    for number in numbers:
        view = ImageView(image, model.decode_head, model.data_preprocessor, placement)
        maps = model.refinements[number].refine(maps, view)
    back = Placement(source.placement.axes, (((0, maps.shape[1]),), ((0, maps.shape[2]),)))
    matrices = back.matrices(maps.shape[1:])
    return InputScores(maps.transpose(0, 1), *matrices, source.queries, source.seen, source.placement)


def relabel(model: EncoderDecoder, labels: Tensor, source: Source) -> Tensor:
    """Labels (H, W) of an image after the refinements of labels."""
    for refinement in model.refinements:
        if refinement.stage == LABELS:
            labels = refinement.relabel(labels, source, model)
    return labels
