"""What classes are called and coloured in tables and pictures."""

import colorsys
from collections.abc import Sequence

from mmseg.registry import DATASETS

from ...utils.checks import nearest
from ..text import Vocabulary

_GOLDEN = 0.618034  # neighbours on the colour circle land far from each other


def distinct_palette(count: int) -> list[list[int]]:
    """`count` well separated RGB colours, always the same."""
    return [
        [
            round(255 * part)
            for part in colorsys.hsv_to_rgb(i * _GOLDEN % 1, 0.55 + 0.3 * (i % 2), 0.95 - 0.3 * (i % 3) / 2)
        ]
        for i in range(count)
    ]


def dataset_meta(vocabulary: Vocabulary, class_names: str | Sequence[str] | None) -> dict[str, list]:
    """MMSeg's `classes` and `palette` for a vocabulary.

    Args:
        vocabulary: Gives the number of classes, and names where nothing else does.
        class_names: A list, the name of a registered dataset class, or None.

    Raises:
        ValueError: The length differs from the vocabulary's, or the dataset class is unknown.
    """
    palette = distinct_palette(vocabulary.num_classes)
    if isinstance(class_names, str):
        dataset = DATASETS.get(class_names)
        if dataset is None or 'classes' not in getattr(dataset, 'METAINFO', {}):
            known = [name for name, value in DATASETS.module_dict.items() if hasattr(value, 'METAINFO')]
            raise ValueError(
                f"decode_head.class_names is '{class_names}', which is no registered dataset class."
                f'{nearest(class_names, known)} Give a list of names, or such a class.'
            )
        names, palette = dataset.METAINFO['classes'], dataset.METAINFO.get('palette', palette)
    else:
        names = vocabulary.first_phrases if class_names is None else class_names
    if len(names) != vocabulary.num_classes:
        source = f' ({class_names})' if isinstance(class_names, str) else ''
        raise ValueError(
            f'decode_head.class_names{source} has {len(names)} names, but the vocabulary {vocabulary.name} has '
            f'{vocabulary.num_classes} classes. Correct the vocabulary (one line a class), or the names: '
            'class_names=None takes the first phrase of each class.'
        )
    return dict(classes=list(names), palette=[list(colour) for colour in palette])
