"""PEARL (CVPR 2026)."""

from .attention import ProcrustesAttention
from .propagation import TextLabelPropagation

__all__ = ['ProcrustesAttention', 'TextLabelPropagation']
