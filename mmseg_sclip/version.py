"""The version of mmseg_sclip; setup.cfg reads it from here."""

__version__ = '0.1.0'
