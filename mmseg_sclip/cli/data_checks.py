"""Looking for a config's data before anything large is loaded."""

from pathlib import Path

from mmengine.config import Config


def check_test_files(config: Config) -> None:
    """Check the folders and the split file that the test dataset names.

    MMSeg's own classes answer a wrong folder with a bare assertion or an empty dataset.

    Raises:
        FileNotFoundError: Something is missing; the message says what was expected where.
    """
    dataset = config.test_dataloader.dataset
    root = dataset.get('data_root')
    if not isinstance(root, str) or '://' in root:
        return
    expected = [
        value
        for value in (*dataset.get('data_prefix', {}).values(), dataset.get('ann_file'))
        if isinstance(value, str) and value
    ]
    layout = f'{root} must hold {", ".join(expected)}' if expected else f'data_root is {root}'
    for part in ('', *expected):
        path = Path(root) / part
        if not path.exists():
            raise FileNotFoundError(
                f'{dataset.type}: {path.absolute()} does not exist. {layout}. Say where the dataset is with '
                '--data-root DIR, or test_dataloader.dataset.data_root in the config; the README tells where to get it.'
            )
        if path.is_dir() and next(path.iterdir(), None) is None:
            raise FileNotFoundError(f'{dataset.type}: {path.absolute()} is empty. {layout}.')
