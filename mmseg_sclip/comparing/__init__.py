"""Runs of several configs, and the tables of their numbers."""
