"""ReCo: classes are sought by vectors that were found in images of them (ReCo, NeurIPS 2022)."""

from .encoder import DistilledDeiT
from .head import RecoHead
from .painted import PaintedReferences, PlainColours
from .references import References

__all__ = ['DistilledDeiT', 'PaintedReferences', 'PlainColours', 'RecoHead', 'References']
