"""Whether rows stand in the order that the paper gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from .paper import REFERENCE, cite
from .tables import Row

Values = Mapping[str, Mapping[str, float]]  # mIoU in percent by row name and dataset


def compare_order(rows: Sequence[Row], values: Values, datasets: Sequence[str]) -> list[str]:
    """For each dataset how many pairs of rows stand as in the paper, then one sentence for each that does not.

    Only pairs are compared of which both rows have a number here and another in the paper; rows of two readings
    of the paper are not compared with each other.

    Args:
        rows: Of one table.
        values: What was measured.
        datasets: Columns to look at, `mean` among them.
    """
    found = []
    for dataset in datasets:
        reference = REFERENCE.get(dataset, dataset)
        compared, against = 0, []
        for first, second in combinations(rows, 2):
            if first.reading and second.reading and first.reading != second.reading:
                continue
            here = [values[row.name].get(dataset) for row in (first, second)]
            there = [cite(row.paper, reference) for row in (first, second)]
            if None in here or None in there or there[0].value == there[1].value:
                continue
            compared += 1
            if there[0].value < there[1].value:
                (first, second), here, there = (second, first), here[::-1], there[::-1]
            if here[0] <= here[1]:
                sign = '=' if here[0] == here[1] else '<'
                paper = ' > '.join(f'{cited.value:.1f} [{cited.tag}]' for cited in there)
                against.append(
                    f'{dataset}: {first.name} {here[0]:.2f} {sign} {second.name} {here[1]:.2f}, but the paper has '
                    f'{paper}{_on(dataset, reference)}'
                )
        if compared:
            agree = f'{dataset}: {compared - len(against)} of {compared} pairs of rows stand in the order of the paper'
            found += [f'{agree}{_on(dataset, reference)}', *against]
    return found


def _on(dataset: str, reference: str) -> str:
    return '' if dataset == reference else f' on {reference}'


def best_of_search(values: Values, datasets: Sequence[str]) -> list[str]:
    """One sentence for each method and dataset: its best setting of PAMR, and the gain over the method without it.

    Args:
        values: What was measured; rows such as `clip+pamr:steps=10,dilations=8-16`.
        datasets: Columns to look at.
    """
    found = []
    for dataset in datasets:
        for method in dict.fromkeys(name.partition('+pamr')[0] for name in values if '+pamr' in name):
            tried = {
                name.partition(':')[2]: row[dataset]
                for name, row in values.items()
                if name.startswith(f'{method}+pamr:') and dataset in row
            }
            if not tried:
                continue
            best = max(tried, key=tried.__getitem__)
            plain = values.get(method, {}).get(dataset)
            gain = '' if plain is None else f', {tried[best] - plain:+.2f} against {plain:.2f} without PAMR'
            found.append(f'{dataset}: {method} {tried[best]:.2f} with {best}{gain}')
    return found
