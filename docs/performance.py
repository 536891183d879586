"""Writes the table of docs/performance.md from the figures of tools/benchmark.py in docs/performance.json.

python docs/performance.py
"""

import json
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
HEAD = (
    'config, image',
    'windows',
    'phrases',
    'plain, s',
    'fp32, s',
    'bf16, s',
    'cold start, s',
    'peak, MiB',
    'same labels',
)


def row(results):
    """The cells of one config and size, from its results in float32 and bfloat16."""
    first, second = results
    plain, ours = first['plain'], first['ours']
    seconds = [f'{r["ours"]["s_per_image"]:.2f} ({r["ratio"]["s_per_image"]:.1f}x)' for r in (first, second)]
    return (
        f'{first["config"]}, {first["size"][0]} x {first["size"][1]}',
        f'{first["windows"]:g}',
        str(first['queries']),
        f'{plain["s_per_image"]:.2f}',
        *seconds,
        f'{plain["start_s"]:.0f} to {ours["start_s"]:.1f}',
        f'{plain["peak_mib"]:.0f} to {ours["peak_mib"]:.0f}',
        ', '.join(f'{100 * r["equal_pixels"]:.2f} %' for r in (first, second)),
    )


def main():
    """Put the table between its two marks."""
    figures = json.loads((DOCS / 'performance.json').read_text(encoding='utf-8'))
    rows = [row(figures[start : start + 2]) for start in range(0, len(figures), 2)]
    lines = [HEAD, ('---', *['--:'] * (len(HEAD) - 1)), *rows]
    table = '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
    page = DOCS / 'performance.md'
    marks = r'(<!-- table -->\n).*?(<!-- end of table -->)'
    text = re.sub(marks, lambda m: f'{m[1]}{table}\n{m[2]}', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    page.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
