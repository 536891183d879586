"""A stand-in for mmcv's compiled ops, which mmseg imports and nothing here uses."""

import importlib.util
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def are_compiled() -> bool:
    """Whether the installed mmcv has compiled ops; does not import it."""
    mmcv = importlib.util.find_spec('mmcv')
    return mmcv is not None and PathFinder.find_spec('mmcv._ext', mmcv.submodule_search_locations) is not None


def stand_in(needed: bool = True) -> None:
    """Let mmseg be imported without compiled ops, and without advice to install them.

    `mmcv.ops` becomes a module whose names raise when they are used. There must be no such module `mmcv._ext`, for
    which mmengine looks to learn whether compiled ops are there.

    Args:
        needed: Whether this mmseg imports the ops without asking whether they are there.
    """
    if are_compiled():
        return
    if needed:
        sys.modules.setdefault('mmcv.ops', _placeholder())
    # mmcv-lite advises on every start to install mmcv for an op that nothing here needs.
    warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')


def _placeholder() -> ModuleType:
    """A module `mmcv.ops` from which any name can be imported; what has the name raises when it is used."""
    module = importlib.util.module_from_spec(ModuleSpec('mmcv.ops', loader=None))

    def missing_op(name: str) -> type:
        if name.startswith('__'):  # `inspect` asks every module for `__file__` and the like
            raise AttributeError(f'module mmcv.ops has no attribute {name!r}')
        if name in ('get_compiler_version', 'get_compiling_cuda_version'):  # mmcv's collect_env expects this error
            raise ModuleNotFoundError('mmcv has no compiled ops')

        def refuse(cls: type, *args: object, **kwargs: object) -> None:
            raise RuntimeError(
                f'mmcv.ops.{name} needs the compiled ops of mmcv, which mmcv-lite lacks. No part of mmseg_sclip '
                'uses it; for a model that does, install mmcv in place of mmcv-lite.'
            )

        # A class, so that `isinstance` and subclassing work: only calling it, or a subclass, raises.
        op = type(name, (), {'__new__': refuse, '__module__': 'mmcv.ops'})
        setattr(module, name, op)
        return op

    module.__getattr__ = missing_op
    return module
