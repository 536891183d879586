# What ReCo's configs have in common: its model part, and what runs it.
_base_ = ['../models/reco.py', '../default_runtime.py']
