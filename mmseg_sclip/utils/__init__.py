"""Helpers that every part may use."""
