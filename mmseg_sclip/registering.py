"""Importing this module registers every model, dataset and hook with MMSegmentation."""

from .compat import prepare

prepare()  # before any import that reaches mmseg

from . import datasets, engine, images, models, visual  # noqa: E402

__all__ = ['datasets', 'engine', 'images', 'models', 'visual']
