"""Draws the plots and writes the tables of docs/performance.md from the figures of tools/benchmark.py.

    python docs/performance.py

reads docs/performance.json (settings) and docs/performance_growth.json (growth), which the commands in
docs/performance.md write.
"""

import json
import re
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from mmseg_sclip.benchmark.report import rows

DOCS = Path(__file__).resolve().parent


def group(runs):
    """Runs of one config and size beside each other."""
    groups = {}
    for run in runs:
        groups.setdefault((run['config'], tuple(run['size'])), []).append(run)
    return list(groups.values())


def table(results):
    """One Markdown table for the precisions of one config and size."""
    first = results[0]
    head = ['', 'plain', *(run['precision'] for run in results)]
    lines = [f'### {first["config"]}, {first["size"][0]} x {first["size"][1]}', '']
    lines += [f'{first["windows"]:g} windows, {first["queries"]} phrases, {first["images"]} images.', '']
    lines += ['| ' + ' | '.join(head) + ' |', '|---' + '|--:' * (len(head) - 1) + '|']
    lines += ['| ' + ' | '.join(cell.strip() for cell in row) + ' |' for row in rows(results)]
    return '\n'.join(lines)


def plot(runs, file):
    """Seconds against windows, phrases and pixels."""
    panels = [
        ('windows', lambda run: run['windows'], 'sclip_cityscapes', 'Windows (Cityscapes words)'),
        ('phrases', lambda run: run['queries'], None, 'Phrases (375 x 500 pixels)'),
        ('pixels', lambda run: run['size'][0] * run['size'][1] / 1e6, 'sclip_ade20k', 'Megapixels (ADE20K words)'),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout='constrained')
    for axis, (_, x, config, label) in zip(axes, panels, strict=True):
        chosen = [run for run in runs if run['config'] == config or (config is None and run['size'] == [375, 500])]
        if config is None:
            chosen = [run for run in chosen if run['windows'] == 6]
        chosen.sort(key=x)
        places = list(map(x, chosen))
        axis.plot(places, [run['plain']['s_per_image'] for run in chosen], 'o-', label='plain way')
        axis.plot(places, [run['ours']['s_per_image'] for run in chosen], 'o-', label='ours')
        axis.plot(places, [run['ours']['stages']['vit'] for run in chosen], 'x:', label='ours, image tower')
        axis.set(xlabel=label, ylabel='seconds an image', ylim=(0, None))
    axes[0].legend()
    figure.savefig(file, dpi=110)


def main():
    """Write both."""
    page = DOCS / 'performance.md'
    tables = '\n\n'.join(map(table, group(json.loads((DOCS / 'performance.json').read_text()))))
    text = re.sub(
        r'(<!-- tables -->\n).*?(<!-- end of tables -->)',
        lambda match: f'{match[1]}{tables}\n{match[2]}',
        page.read_text(encoding='utf-8'),
        flags=re.DOTALL,
    )
    page.write_text(text, encoding='utf-8')
    plot(json.loads((DOCS / 'performance_growth.json').read_text()), DOCS / 'images' / 'performance.png')


if __name__ == '__main__':
    main()
