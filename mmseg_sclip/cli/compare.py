"""`tools/compare.py` and `mmseg-sclip compare`: what several configs make of the same images, side by side."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ..config import apply_data_flags, find_device, input_files, load_config
from ..errors import BadFileError, ConfigError, UsageError, describe
from ..model_flags import apply_model_flags_to_all
from ..models.needed import check_weights
from ..options import name_companions, own_options
from ..outputs import OutputFolder
from ..visual.comparable import check_classes, check_datasets, check_truth
from ..visual.comparison import CRITERIA, Device, Failures, Prediction, compare, rank, score
from ..visual.comparison_figure import comparison_figure
from ..visual.methods import Method, short_names
from ..visual.subjects import Subject, all_subjects, find_subjects
from .arguments.compare import parse
from .figure_flags import open_folder, save_figure


def main(argv: Sequence[str]) -> int:
    """Draw the figures; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ConfigError: A config is wrong, or the configs cannot be compared.
        BadFileError: An image could not be used; the others are drawn.
        MissingFileError: Data, weights or a config are missing.
        OutputError: The folder holds images, or cannot be written to.
    """
    args = parse(argv)
    methods = _methods(args)
    device, failures = find_device(args.device), {}
    subjects = find_subjects(args.images, methods[0]) if args.images else all_subjects(methods[0])
    of_dataset = [subject for subject in subjects if subject.index is not None]
    if of_dataset:
        check_datasets(methods)
    inputs = [path for method in methods for path in input_files(method.config)]
    folder = open_folder(args, [*inputs, *(subject.path for subject in subjects)])
    check_truth(of_dataset, methods)
    if not args.images:
        subjects = _ranked(args, subjects, methods, device, failures)
    _refuse_without_truth(args, [subject.path for subject in subjects if subject.index is None], len(subjects))
    compared = compare(subjects, methods, device, failures)
    if compared:
        _print_scores(compared, methods)
        _draw(args, folder, compared, methods)
    for subject, error in failures.items():
        print(f'{subject.path} was left out: {describe(error)}', file=sys.stderr)
    if failures:
        raise BadFileError(
            f'{len(failures)} image{"s were" if len(failures) > 1 else " was"} left out; the reasons stand above.'
            f'{"" if compared else " No figure was drawn."}'
        )
    return 0


def _methods(args: argparse.Namespace) -> list[Method]:
    names = short_names(args.configs)
    options = [args.cfg_options or {}] * len(names)
    if name_companions(args.cfg_options):
        plain = [load_config(given, own_modules=True) for given in args.configs]
        options = [own_options(config, args.cfg_options, plain) for config in plain]
    configs = [load_config(*each, own_modules=True) for each in zip(args.configs, options, strict=True)]
    named = list(zip(names, configs, strict=True))
    apply_model_flags_to_all(named, args.model_name, args.pretrained, args.weights)
    for config in configs:
        apply_data_flags(config, args.data_root, args.max_images, args.bands)
    methods = list(map(Method, names, configs))
    check_classes(methods)
    for config in configs:
        check_weights(config.model, fetch=False)
    return methods


def _ranked(
    args: argparse.Namespace, subjects: Sequence[Subject], methods: Sequence[Method], device: Device, failures: Failures
) -> list[Subject]:
    """The images that --worst or --best asks for."""
    deciding = [methods[index] for index in CRITERIA[args.by].methods]
    scores = score(subjects, deciding, device, failures)
    without = sum(subject not in scores and subject not in failures for subject in subjects)
    if without:
        print(f'{without} of {len(subjects)} images have no ground truth and are not ranked.')
    chosen = rank(scores, args.by, args.worst is not None, args.worst or args.best)
    if not chosen and not failures:
        raise ConfigError(
            f'None of the {len(subjects)} images of {type(methods[0].dataset).__name__} has an mIoU: they have no '
            'ground truth, or it is ignored everywhere.'
        )
    return chosen


def _print_scores(compared: Sequence[Sequence[Prediction]], methods: Sequence[Method]) -> None:
    if all(image[0].truth is None for image in compared):
        return
    table = Table('image', *(method.name for method in methods), title='mIoU of each image', title_justify='left')
    for image in compared:
        values = ('-' if math.isnan(prediction.miou) else f'{prediction.miou:.2f}' for prediction in image)
        table.add_row(image[0].subject.name, *values)
    Console(file=sys.stdout, highlight=False, markup=False, width=1000).print(table)  # a table is as wide as its words


def _draw(
    args: argparse.Namespace, folder: OutputFolder, compared: Sequence[Sequence[Prediction]], methods: Sequence[Method]
) -> None:
    """Write one figure, or several of `--rows` images."""
    without = [image[0].subject.path for image in compared if image[0].truth is None]
    _refuse_without_truth(args, without, len(compared))
    pages = [compared[start : start + args.rows] for start in range(0, len(compared), args.rows)]
    for number, page in enumerate(pages, 1):
        figure = comparison_figure(
            page,
            methods,
            truth=len(without) < len(compared) if args.gt is None else args.gt,
            error_maps=args.error_map,
            opacity=args.opacity,
            max_side=args.max_side,
            title=_title(args, methods),
        )
        stem = 'comparison' if len(pages) == 1 else f'comparison_{number}'
        save_figure(figure, args, folder, folder.name(stem, '.png', '.pdf'))


def _refuse_without_truth(args: argparse.Namespace, without: Sequence[str], count: int) -> None:
    """Refuse flags that ask for ground truth where the images have none."""
    if args.gt and without:
        raise UsageError(f'--gt: {without[0]} has no ground truth. Leave --gt out, or the image.')
    if args.error_map and without and len(without) == count:
        raise UsageError('--error-map: none of the images has ground truth. Leave it out.')


def _title(args: argparse.Namespace, methods: Sequence[Method]) -> str:
    if args.images:
        return ''
    first, last = methods[0].name, methods[-1].name
    number = dict(first=f'mIoU of {first}', last=f'mIoU of {last}', gain=f'mIoU of {last} minus mIoU of {first}')
    return f'{"Lowest" if args.worst else "Highest"} {number[args.by]}, image by image'
