"""Which configs may share a pass over the images, why others may not, and the config that runs several together.

All commands that take several configs ask here: `compare` predicts with the models of a pass, `compare-methods` and
`ablate` test them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS, MODELS

from ..checks import class_of, is_a
from ..errors import ConfigError, UserError
from ..models.segmentors import MethodBundle, SCLIPSegmentor
from .ignored import metrics_in
from .metric import ExactIoUMetric
from .preparing import name_of

# Of a pass, one config decides these for all.
_DECIDED_ONCE = (
    'test_dataloader.dataset',
    'test_dataloader.sampler',
    'model.data_preprocessor',
    'test_cfg',
    'custom_hooks',
    'env_cfg',
    'randomness',
)


def passes(configs: Sequence[Config]) -> list[list[int]]:
    """The indices of configs that can share a pass, for each pass; both in the order of the configs."""
    kinds = list(map(_kind, configs))
    groups: list[list[int]] = []
    for index, kind in enumerate(kinds):
        group = next((group for group in groups if kind is not None and kinds[group[0]] == kind), None)
        if group is None:
            groups.append([index])
        else:
            group.append(index)
    return groups


def why_apart(first: Config, other: Config) -> str | None:
    """One sentence that says why two configs cannot share a pass; None where they can."""
    for config in (first, other):
        if (reason := _reason_alone(config)) is not None:
            return f'{name_of(config)} {reason}. Test it by itself.'
    ours, theirs = _decided_once(first), _decided_once(other)
    for where, value in ours.items():
        if value != theirs[where]:
            names = f'{name_of(first)} and {name_of(other)}'
            return f'{names} cannot be tested in one pass: their {where} differs. Test them apart.'
    return None


def bundle(configs: Sequence[Config]) -> Config:
    """The config that runs several ones together, as a `MethodBundle`.

    The first one's loader and hooks are used. Each has an evaluator of its own, which reads its own predictions.

    Raises:
        ConfigError: They cannot share a pass.
    """
    config = copy.deepcopy(configs[0])
    config.pop('data_preprocessor', None)  # each model has it
    config.test_evaluator, methods = [], {}
    for number, own in enumerate(configs):
        if (reason := why_apart(configs[0], own)) is not None:
            raise ConfigError(reason)
        # As in MMEngine's runner, the preprocessor of the model itself wins.
        default = {key: own[key] for key in ('data_preprocessor',) if own.get(key) is not None}
        methods[f'{number}'] = {**default, **own.model}
        names = dict(prediction=MethodBundle.prediction(number), prefix=f'{name_of(own)} {number}')
        config.test_evaluator.append({**metrics_in(own)[0], **names})
    config.model = dict(type='MethodBundle', methods=methods)
    return config


def _kind(config: Config) -> dict[str, Any] | None:
    """What the configs of one pass have in common; None for a config that is tested alone."""
    try:
        return None if _reason_alone(config) else _decided_once(config)
    except UserError:  # its own pass says it
        return None


def _reason_alone(config: Config) -> str | None:
    """Why a config can share a pass with no other, to be said after its name; None where it can."""
    if config.get('load_from'):
        return f'has the checkpoint {config.load_from}, which a pass of several configs does not load'
    if not is_a(MODELS, config.model, SCLIPSegmentor):
        return f'is of type {config.model.type} and has no CLIP to share'
    metrics = metrics_in(config)
    if len(metrics) != 1 or not _counts_exactly(metrics[0]):
        return 'has other metrics in its test_evaluator than one IoUMetric'
    return None


def _counts_exactly(metric: Any) -> bool:
    """Whether a test counts with `ExactIoUMetric` here; it stands in for MMSegmentation's own."""
    if not isinstance(metric, Mapping) or 'type' not in metric:
        return False
    return class_of(METRICS, metric['type']) is IoUMetric or is_a(METRICS, metric, ExactIoUMetric)


def _decided_once(config: Config) -> dict[str, Any]:
    """The settings that all configs of a pass must have in common, by their place."""
    found = {where: _at(config, where) for where in _DECIDED_ONCE}
    own = found['model.data_preprocessor'] or _at(config, 'data_preprocessor') or {}
    # Each method normalises images itself.
    found['model.data_preprocessor'] = {
        'type': 'CLIPDataPreProcessor',
        **{key: value for key, value in own.items() if key not in ('mean', 'std', 'exact')},
    }
    return found


def _at(config: Config, where: str) -> Any:
    value = config
    for key in where.split('.'):
        value = (value or {}).get(key)
    return value.to_dict() if hasattr(value, 'to_dict') else value
