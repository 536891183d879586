"""What classes are called and coloured in tables and pictures."""

from collections.abc import Sequence

from mmseg.registry import DATASETS

from ...datasets.palette import distinct_palette
from ...errors import ConfigError, nearest
from . import Vocabulary


def dataset_meta(
    vocabulary: Vocabulary, class_names: str | Sequence[str] | None, background_index: int | None = None
) -> dict[str, list]:
    """MMSeg's `classes` and `palette` for a vocabulary.

    Args:
        vocabulary: Gives the number of classes, and names where nothing else does.
        class_names: A list, the name of a registered dataset class, or None.
        background_index: The class that is black, unless a dataset class says otherwise.

    Raises:
        ConfigError: The length differs from the vocabulary's, the dataset class is unknown, or there is no such
            background class.
    """
    if background_index is not None and background_index not in range(vocabulary.num_classes):
        raise ConfigError(
            f'decode_head.background_index is {background_index!r}, but the vocabulary {vocabulary.name} has the '
            f'classes 0 to {vocabulary.num_classes - 1}.'
        )
    palette = distinct_palette(vocabulary.num_classes, background_index)
    if isinstance(class_names, str):
        dataset = DATASETS.get(class_names)
        if dataset is None or 'classes' not in getattr(dataset, 'METAINFO', {}):
            known = [name for name, value in DATASETS.module_dict.items() if hasattr(value, 'METAINFO')]
            raise ConfigError(
                f"decode_head.class_names is '{class_names}', which is not a registered dataset class."
                f'{nearest(class_names, known)} Give a list of names, or such a class.'
            )
        names, palette = dataset.METAINFO['classes'], dataset.METAINFO.get('palette', palette)
    else:
        names = vocabulary.class_names if class_names is None else class_names
    if len(names) != vocabulary.num_classes:
        source = f' ({class_names})' if isinstance(class_names, str) else ''
        raise ConfigError(
            f'decode_head.class_names{source} has {len(names)} names, but the vocabulary {vocabulary.name} has '
            f'{vocabulary.num_classes} classes. Correct the vocabulary (one line per class), or the names: '
            'class_names=None takes the first phrase of each class.'
        )
    return dict(classes=list(names), palette=[list(colour) for colour in palette])
