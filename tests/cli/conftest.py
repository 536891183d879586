import pytest
from helpers import Result
from PIL import Image

from mmseg_sclip.cli import main


@pytest.fixture
def run(fresh_engine, tmp_path, monkeypatch, capfd):
    """`run(command, *arguments)` is `mmseg-sclip command ...` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COLUMNS', '60')  # a narrow window must not break paths

    def call(*words):
        capfd.readouterr()
        return Result(main.main([str(word) for word in words]), *capfd.readouterr())

    return call


@pytest.fixture
def photos(tmp_path, recipe):
    """A folder with 0.jpg (40 x 61 pixels) and 1.jpg (52 x 33)."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    for number, size in enumerate(((40, 61), (52, 33))):
        Image.fromarray(recipe.image(number, *size)).save(folder / f'{number}.jpg')
    return folder
