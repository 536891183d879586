"""`tools/attention.py` and `mmseg-sclip attention`: what points of an image attend to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from PIL import Image

from ..config import check_is_clip, find_device, load_config
from ..datasets.pipelines import bands_of, choose_bands
from ..datasets.scenes import scene
from ..engine.loading import build_model
from ..errors import MissingFileError
from ..images import pack_photograph, read_photograph
from ..model_flags import apply_model_flags
from ..models.needed import check_weights
from ..notes import say
from ..outputs import OutputFolder
from ..visual.attention import attention_maps, check_points
from ..visual.attention_figure import attention_figure
from ..visual.attention_names import parse_attention
from ..visual.bound_attention import bind_attention
from ..visual.png import save_png
from .arguments.attention import CONFIG, DEMO_CONFIG, OWN, parse
from .figure_flags import open_folder, save_figure

_DEMO_SCENE = 0


def main(argv: Sequence[str]) -> int:
    """Draw the figure; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ConfigError: A point, layer, head or attention does not exist, or the config is wrong.
        MissingFileError: The image, the weights or the config are missing.
        OutputError: The folder holds the image, or cannot be written to.
    """
    args = parse(argv)
    folder = open_folder(args, [args.image] if args.image else [])
    name = args.config or (DEMO_CONFIG if args.demo else CONFIG)
    config = load_config(name, args.cfg_options, own_modules=True)
    check_is_clip(config)
    apply_model_flags(config, args.model_name, args.pretrained, args.weights)
    _check_weights(config)
    path = Path(args.image) if args.image else _paint(folder)
    choose_bands(config, args.bands)
    notes = []
    pixels = read_photograph(path, bands_of(config), notes)
    say(notes, set())
    check_points(args.points, pixels.shape[:2])
    for text in args.attention:
        if text != OWN:
            parse_attention(text)  # before weights are loaded
    if args.checkpoint:
        config.load_from = args.checkpoint
    model = build_model(config, find_device(args.device))
    attentions = [bind_attention(model, text, config.model) for text in args.attention]
    packed = pack_photograph(config.test_dataloader.dataset.pipeline, pixels, path)
    image = model.data_preprocessor(dict(inputs=[packed['inputs']]))['inputs'][0]
    model.backbone.tower.check_size(image, str(path))
    meta = packed['data_samples'].metainfo
    maps = attention_maps(
        model, image, args.points, attentions, args.layers, args.heads, args.mode, pixels.shape[:2], meta
    )
    title = f'{path.name}, {model.source.name}.'
    figure = attention_figure(pixels, maps, title, args.max_side)
    save_figure(figure, args, folder, folder.name(path, '_attention.png', '_attention.pdf') + '_attention')
    return 0


def _check_weights(config: Config) -> None:
    try:
        check_weights(config.model)
    except MissingFileError as error:
        raise MissingFileError(f'{error} To try this command without weights, add --demo.') from error


def _paint(folder: OutputFolder) -> Path:
    """A scene of the demo's evaluation set, as a file that the user can look at."""
    name = folder.name(f'scene_{_DEMO_SCENE}.png', '.png') + '.png'
    save_png(folder, name, Image.fromarray(scene('evaluation', 0, _DEMO_SCENE, 192, 6).image))
    print(f'The painted scene is {(folder.folder / name).resolve()}')
    return folder.folder / name
