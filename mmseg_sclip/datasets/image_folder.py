"""A folder of images of any kind, and a folder of label maps."""

from pathlib import Path

from mmengine import fileio
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from torchvision.datasets.folder import IMG_EXTENSIONS

from ..errors import BadFileError
from .check_files import label_maps, list_images
from .checked_layout import CheckedLayout


@DATASETS.register_module()
class ImageFolderDataset(CheckedLayout, BaseSegDataset):
    """Every image in a folder, whatever its suffix, with the label map of the same name.

    MMSegmentation's `BaseSegDataset` takes the images of one suffix and leaves out all others. The classes are given by
    `metainfo=dict(classes=...)`.

    Args:
        data_root: Folder of the two below.
        data_prefix: `img_path` and `seg_map_path`. Folders inside of them are read too; label maps may lie among the
            images, or in a folder there.
        seg_map_suffix: What stands in place of the suffix in the name of a label map.
        kwargs: As in `BaseSegDataset`, such as `metainfo`, `reduce_zero_label`, and `ann_file`: a file that names the
            images to take, without suffix, one a line.

    Raises:
        MissingFileError: A folder is missing, there is no image, or not all that the `ann_file` names.
        BadFileError: Two images differ in their suffix only, so that they have one label map.
    """

    LAYOUT = 'the images in data_prefix.img_path, and for each a label map of the same name in data_prefix.seg_map_path'

    def __init__(
        self,
        data_root: str,
        data_prefix: dict | None = None,
        seg_map_suffix: str = '.png',
        **kwargs,
    ) -> None:
        prefix = dict(img_path='images', seg_map_path='labels') if data_prefix is None else data_prefix
        super().__init__(
            data_root=data_root,
            data_prefix=prefix,
            img_suffix=IMG_EXTENSIONS,
            seg_map_suffix=seg_map_suffix,
            **kwargs,
        )

    def list_samples(self) -> list[dict]:
        """List the images by name."""
        folder, labels = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        samples, images = [], {}
        wanted = set(Path(self.ann_file).read_text(encoding='utf-8').splitlines()) - {''} if self.ann_file else None
        names = list_images(folder)
        for name in sorted({*names} - label_maps(names, folder, labels, self.seg_map_suffix)):
            stem = name[: name.rindex('.')]
            label = f'{stem}{self.seg_map_suffix}'
            if wanted is not None and stem not in wanted:
                continue
            if label in images:
                raise BadFileError(
                    f'{images[label]} and {name} in {folder} would both have the label map {label}. Rename one of '
                    'them, and its label map.'
                )
            images[label] = name
            sample = dict(img_path=fileio.join_path(folder, name), label_map=self.label_map, seg_fields=[])
            sample['reduce_zero_label'] = self.reduce_zero_label
            if labels is not None:
                sample['seg_map_path'] = fileio.join_path(labels, label)
            samples.append(sample)
        absent = sorted((wanted or set()) - {name[: name.rindex('.')] for name in images.values()})
        if absent:
            raise self._missing(f'{self.ann_file} names {len(absent)} images that are not there, such as {absent[0]}')
        if not samples:
            raise self._missing(f'there is no image in {folder} ({", ".join(IMG_EXTENSIONS)})')
        return samples
