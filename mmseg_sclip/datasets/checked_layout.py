"""Clear errors for data that is not where a dataset looks for it."""

from os.path import abspath, exists

from mmengine import fileio

from ..errors import ConfigError, MissingFileError


class CheckedLayout:
    """Mixin that stands before `BaseSegDataset` and says which part of `LAYOUT` is missing, once files are listed.

    Without it a missing folder is a bare assertion, an empty one an empty dataset, and label maps that
    were never converted show up only in a loader worker.
    """

    requires_files = True  # of the first sample; what looks at all files does not need that
    LAYOUT = ''  # what a person has to put below `data_root`

    def load_data_list(self) -> list[dict]:
        """List the samples.

        Raises:
            MissingFileError: A folder, the split file or the first sample's files are not there.
        """
        images, labels = (self.data_prefix.get(key) for key in ('img_path', 'seg_map_path'))
        self._require('image folder', images)
        self._require('label folder', labels)
        if self.ann_file and '://' not in self.ann_file and not exists(self.ann_file):
            raise self._missing(f'the split file {abspath(self.ann_file)} does not exist')
        samples = self.list_samples()
        if not samples:
            raise self._missing(
                f'no sample is listed in {self.ann_file}'
                if self.ann_file
                else f'no *{self.img_suffix} in {abspath(images)}'
            )
        if self.requires_files:
            self._require('image', samples[0]['img_path'])
            self._require('label map', samples[0].get('seg_map_path'))
        return samples

    def list_samples(self) -> list[dict]:
        """List the samples, after it is known that the folders are there."""
        return super().load_data_list()

    def _require(self, what: str, path: str | None) -> None:
        if not path:
            return
        try:
            there = fileio.exists(path, backend_args=self.backend_args)
        except (AttributeError, NotImplementedError):  # an http server is asked for the files only
            return
        except ImportError as error:
            raise ConfigError(f'The {what} {path} cannot be read: {error}') from error
        if not there:
            where = path if '://' in path else abspath(path)
            raise self._missing(f'the {what} {where} does not exist')

    def _missing(self, problem: str) -> MissingFileError:
        return MissingFileError(
            f'{type(self).__name__}: {problem}. Expected below data_root ({self.data_root}): {self.LAYOUT}. '
            'Pass the folder that holds them with --data-root DIR, or set test_dataloader.dataset.data_root.'
        )
