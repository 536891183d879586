"""What a person reads of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import PLAIN_PHRASES

NOTE = (
    'Medians of seconds, both ways alternating in one run; the spread is over repetitions. "x" is how many times less '
    f'than the plain way. The start is from the config to the text bank; the plain one was timed on {PLAIN_PHRASES} '
    'phrases and scaled. Memory is what comes on top of the built model. The peak is the best torch.mm of '
    '(1182 x 768)(768 x 3072) in the same precision.'
)


def print_report(results: Sequence[dict[str, Any]], console: Console) -> None:
    """One table for the precisions of one config."""
    first = results[0]
    title = (
        f'{first["config"]}: {first["size"][0]} x {first["size"][1]} pixels, {first["windows"]:g} windows, '
        f'{first["queries"]} phrases, {first["images"]} images; {first["device"]}, {first["threads"]} threads'
    )
    table = Table(title=title, title_justify='left')
    for name in ('', 'plain', *(result['precision'] for result in results)):
        table.add_column(name, justify='right' if name else 'left')
    for row in rows(results):
        table.add_row(*row)
    console.print(table)


def rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The lines of the table: a name, the plain way, and ours in each precision."""
    plain, windows = results[0]['plain'], results[0]['windows']
    ours = [(result, result['ours'], result['ratio']) for result in results]

    def line(name: str, key: str, show: Callable[[Any], str], ratio: str | None = None) -> list[str]:
        each = [show(o[key]) + (f' ({_times(r[ratio])})' if ratio else '') for _, o, r in ours]
        return [name, show(plain[key]) if key in plain else '', *each]

    table = [
        line('s an image', 's_per_image', '{:.3f}'.format, 's_per_image'),
        line('  spread', 'spread', lambda spread: '{:.3f} to {:.3f}'.format(*spread)),
        line('images/s', 's_per_image', lambda seconds: f'{1 / seconds:.2f}'),
        line('windows/s', 's_per_image', lambda seconds: f'{windows / seconds:.2f}'),
        line('cold start, s', 'start_s', '{:.2f}'.format, 'start_cold'),
        line('warm start, s', 'warm_start_s', '{:.3f}'.format),
        line('peak memory, MiB', 'peak_mib', lambda value: '?' if value is None else f'{value:.0f}', 'peak'),
    ]
    for stage in ours[0][1]['stages']:
        share = [f'{100 * o["stages"][stage] / sum(o["stages"].values()):.1f} %' for _, o, _ in ours]
        table.append([f'  share of {stage}', '', *share])
    table += [
        ['ViT, GFLOP/s', '', *(f'{r["vit_gflops"]:.0f} of {r["peak_gflops"]:.0f}' for r, _, _ in ours)],
        ['  share of the peak', '', *(f'{100 * r["vit_share_of_peak"]:.0f} %' for r, _, _ in ours)],
        ['same labels', '', *(f'{100 * r["equal_pixels"]:.3f} %' for r, _, _ in ours)],
    ]
    if results[0]['miou'] is not None:
        each = [result['miou'] for result in results]
        change = [f'{m["ours"]:.2f} ({m["ours"] - m["plain"]:+.2f})' for m in each]
        table.append(['mIoU', f'{each[0]["plain"]:.2f}', *change])
    return table


def _times(ratio: float | None) -> str:
    return '?' if ratio is None else f'{ratio:.1f}x' if ratio < 10 else f'{ratio:.0f}x'
