"""What several configs make of the same images."""

from .figure import compare_figure
from .images import Subject, all_subjects, find_subjects
from .methods import Method, OneModel, check_comparable, short_names
from .ranking import CRITERIA, rank
from .running import Compared, Failures, compare, score
from .scoring import IGNORED, RIGHT, WRONG, error_map, image_miou, share_right

__all__ = [
    'CRITERIA',
    'IGNORED',
    'RIGHT',
    'WRONG',
    'Compared',
    'Failures',
    'Method',
    'OneModel',
    'Subject',
    'all_subjects',
    'check_comparable',
    'compare',
    'compare_figure',
    'error_map',
    'find_subjects',
    'image_miou',
    'rank',
    'score',
    'share_right',
    'short_names',
]
