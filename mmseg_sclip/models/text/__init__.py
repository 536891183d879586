"""The text side: vocabularies, prompt templates and the text bank."""

from .bank_cache import TextBankCache
from .phrases import split_phrases, warn_of_line, warn_of_list
from .templates import SHIPPED_TEMPLATES, load_templates
from .text_bank import encode_phrases, warn_of_scripts
from .vocabulary import Vocabulary, find_vocabulary, load_vocabulary, shipped_vocabularies

__all__ = [
    'SHIPPED_TEMPLATES',
    'TextBankCache',
    'Vocabulary',
    'encode_phrases',
    'find_vocabulary',
    'load_templates',
    'load_vocabulary',
    'shipped_vocabularies',
    'split_phrases',
    'warn_of_line',
    'warn_of_list',
    'warn_of_scripts',
]
