"""What is refused of a part of the user's own, whose annotations say what its arguments may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import pytest
from mmseg.registry import MODELS

from mmseg_sclip import checks
from mmseg_sclip.checks import build_strategy, check_parameters, find_registered
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import Attention
from mmseg_sclip.rules import AtLeast

if TYPE_CHECKING:
    from nowhere import Unknown


class Base(Attention):
    """As a user may write it."""

    def __init__(self, kind: Literal['a', 'b'] = 'a', size: Annotated[int, 'in pixels', AtLeast(2)] | None = None):
        super().__init__()


class Child(Base):
    moved = {'mode': "its values are those of kind, kind='a'"}

    def __init__(self, flag: bool = None, **kwargs):
        super().__init__(**kwargs)


class Typed(Attention):
    def __init__(self, part: Unknown = None, flag: bool = False):
        super().__init__()


@pytest.mark.parametrize(
    'config, words',
    [
        (dict(type=Child, kind='c'), "x: Child.kind is 'c'; it must be one of 'a', 'b'."),
        (dict(type=Child, size=1), 'x: Child.size is 1; it must be a whole number, at least 2, or None.'),
        (dict(type=Child, flag='yes'), "x: Child.flag is 'yes'; it must be True or False."),
        (dict(type=Child, mode='a'), "x (Child) has no key 'mode' any more: its values are those of kind, kind='a'."),
        (dict(type=Base, mode='a'), "Unknown key 'mode' in x (Base)."),
    ],
)
def test_a_part_of_the_users_own(config, words):
    with pytest.raises(ConfigError) as caught:
        build_strategy('x', config, Attention)
    assert words in str(caught.value)


def test_what_has_no_rule_is_not_checked():
    build_strategy('x', dict(type=Child, kind='b', size=None, flag=None), Attention)  # a default is always allowed
    build_strategy('x', dict(type=Typed, part=3, flag=True), Attention)  # a name that only type checkers import


def test_a_parameter_that_moved_is_named_where_a_config_is_read():
    with pytest.raises(ConfigError, match=r"model.decode_head has no key 'mode' any more"):
        check_parameters('model.decode_head', Child, ['type', 'mode'])


@pytest.mark.parametrize('name', ['WithMeanAttention', 'LastBlockWithAffinity'])
def test_a_type_that_moved_says_what_to_write(monkeypatch, name):
    monkeypatch.delitem(MODELS.module_dict, name, raising=False)
    with pytest.raises(ConfigError, match=rf"^backbone.decoder has the type '{name}', which is .*affinity=dict\(type="):
        find_registered('backbone.decoder', name)
    assert name in checks._MOVED
