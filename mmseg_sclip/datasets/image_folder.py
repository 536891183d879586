"""A folder of images of any kind, and a folder of label maps."""

from mmengine import fileio
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..errors import BadFileError
from ..images import readable_suffixes
from .checked_layout import CheckedLayout
from .listing import label_maps, list_images
from .split_file import read_split


@DATASETS.register_module()
class ImageFolderDataset(CheckedLayout, BaseSegDataset):
    """Every image in a folder that can be read, whatever its suffix, with the label map of the same name.

    MMSegmentation's `BaseSegDataset` takes the images of one suffix and leaves out all others. The classes are given by
    `metainfo=dict(classes=...)`.

    Args:
        data_root: Folder of the two below.
        data_prefix: `img_path` and `seg_map_path`. Folders inside of them are read too; label maps may lie among the
            images, or in a folder there.
        seg_map_suffix: What stands in place of the suffix in the name of a label map.
        kwargs: As in `BaseSegDataset`, such as `metainfo`, `reduce_zero_label`, and `ann_file`: a file that names the
            images to take, without suffix, one per line.

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
            img_suffix=readable_suffixes(),
            seg_map_suffix=seg_map_suffix,
            **kwargs,
        )

    def list_samples(self) -> list[dict]:
        """List the images by name."""
        folder, labels = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        samples, images = [], {}
        names = list_images(folder, self.backend_args)
        names = sorted({*names} - label_maps(names, folder, labels, self.seg_map_suffix))
        stems = {_stem(name) for name in names}
        wanted = None
        if self.ann_file:
            wanted = {*read_split(self.ann_file, stems.__contains__)}
        for name in names:
            if wanted is not None and _stem(name) not in wanted:
                continue
            label = f'{_stem(name)}{self.seg_map_suffix}'
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
        absent = sorted((wanted or set()) - stems)
        if absent:
            raise self._missing(f'{self.ann_file} names {len(absent)} images that are not there, such as {absent[0]}')
        if not samples:
            raise self._missing(f'there is no image in {folder} ({", ".join(readable_suffixes())})')
        return samples


def _stem(name: str) -> str:
    """A name without its suffix."""
    return name[: name.rindex('.')]
