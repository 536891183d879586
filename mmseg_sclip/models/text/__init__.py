"""The text side: vocabularies, prompt templates and the text bank."""

from .bank_cache import TextBankCache
from .encoder import TextEncoder
from .phrases import split_phrases, warn_of_line, warn_of_list
from .templates import SHIPPED_TEMPLATES, load_templates
from .vocabulary import Vocabulary, find_vocabulary, load_vocabulary, shipped_vocabularies

__all__ = [
    'SHIPPED_TEMPLATES',
    'TextBankCache',
    'TextEncoder',
    'Vocabulary',
    'find_vocabulary',
    'load_templates',
    'load_vocabulary',
    'shipped_vocabularies',
    'split_phrases',
    'warn_of_line',
    'warn_of_list',
]
