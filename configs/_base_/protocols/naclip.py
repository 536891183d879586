# What NACLIP's configs have in common: the code refines all scores with PAMR.
_base_ = ['../models/naclip.py', '../default_runtime.py']
model = dict(test_cfg=dict(refine=[dict(type='PAMR', steps=10, dilations=(8, 16))]))
