"""The table of docs/weights.md is made of what configs say of their weights; run as a script, this file writes it."""

import re
from pathlib import Path

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import pytest
from mmseg.registry import MODELS

from mmseg_sclip.config import each_file_read_once, load_config
from mmseg_sclip.models.needed import needed_weights
from mmseg_sclip.paths import list_configs, method_and_dataset

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'weights.md'
HEAD = '| Methods | File | Published | Licence | MB | Named by |'
# What no shipped config needs as it is: the method, and the model.
VARIANTS = [
    ('sc_clip with ViT-L/14', dict(clip=dict(model_name='ViT-L-14-quickgelu', pretrained='openai'))),
    *(
        (f'proxyclip with {name}', dict(companions=dict(dino=dict(type='TimmCompanion', model=model))))
        for name, model in (
            ('DINO ViT-B/16', 'vit_base_patch16_224.dino'),
            ('DINOv2', 'vit_base_patch14_reg4_dinov2.lvd142m'),
            ('MAE', 'vit_base_patch16_224.mae'),
        )
    ),
    ('proxyclip with SAM', dict(companions=dict(dino=dict(type='SamCompanion')))),
    ('corrclip with Sam2Regions', dict(companions=dict(regions=dict(type='Sam2Regions')))),
]
MOST = 8  # methods that are named


def table():
    """The lines of the table; files that several methods need stand once."""
    found = {}
    with each_file_read_once():
        for path in list_configs():
            method, dataset = method_and_dataset(path.stem)
            if dataset != 'demo':
                collect(found, method, load_config(path).model)
    for method, model in VARIANTS:
        if all(MODELS.get(own['type']) for own in model.get('companions', {}).values()):
            collect(found, method, model)
    lines = [HEAD, re.sub(r'[^|]+', '---', HEAD)]
    for file, methods, flags in found.values():
        names = ', '.join(methods) if len(methods) <= MOST else 'all that have no other row with `clip`'
        lines.append(f'| {names} | {" | ".join(cells(file))} | {", ".join(f"`{flag}`" for flag in flags)} |')
    return lines


def collect(found, method, model):
    for file in needed_weights(model).values():
        _, methods, flags = found.setdefault(file.what, (file, [], []))
        if method not in methods:
            methods.append(method)
        if file.flag not in flags:
            flags.append(file.flag)


def cells(file):
    copied, _ = file.copy_to()
    name = (
        f'`{copied}`'.replace(' or ', '` or `') if file.given is None else f'a file or folder, such as `{file.given}`'
    )
    hub = '' if file.repository is None else f'[{file.repository}](https://huggingface.co/{file.repository})'
    published = re.sub(r'( or | and )?(https://)?huggingface.co/\S+', '', file.published)
    published = re.sub(r'https://\S+', lambda link: f'[{link[0].split("/")[2]}]({link[0]})', published)
    places = ', '.join(place for place in (published, hub) if place)
    licence = file.licence or ('not verified' if file.given is None else '')
    return f'{file.what}: {name}', places, licence, str(file.size or '')


@pytest.mark.slow
def test_the_table_is_what_configs_say():
    lines = PAGE.read_text(encoding='utf-8').splitlines()
    start = lines.index(HEAD)
    shown = [line for line in lines[start:] if line.startswith('|')][: len(table())]
    assert shown == table()


if __name__ == '__main__':
    before, _, rest = PAGE.read_text(encoding='utf-8').partition('<!-- made by')
    mark, _, after = rest.partition('\n')
    after = re.sub(r'^(\|.*\n)+', '', after.lstrip('\n')).lstrip('\n')
    PAGE.write_text(f'{before}<!-- made by{mark}\n\n' + '\n'.join(table()) + f'\n\n{after}', encoding='utf-8')
