"""Running the refinements of a segmentor over whole maps of scores."""

from __future__ import annotations

from mmseg.models import EncoderDecoder
from torch import Tensor

from ..image.geometry import restore_image
from ..image.scores import ClassScores, MapScores, PixelScores, Scores
from ..refinements.base import ImageView


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
