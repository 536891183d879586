"""Pictures of what tokens attend to (paper, Figures 2 and 4)."""

from .figure import attention_figure, describe_views
from .maps import AttentionMaps, AttentionRow, attention_maps, check_heads, check_layers, check_points
from .strategies import OWN, Strategy, bind_strategy, parse_attention
from .view import Point, View

__all__ = [
    'OWN',
    'AttentionMaps',
    'AttentionRow',
    'Point',
    'Strategy',
    'View',
    'attention_figure',
    'attention_maps',
    'bind_strategy',
    'check_heads',
    'check_layers',
    'check_points',
    'describe_views',
    'parse_attention',
]
