# SCLIP's Table 2: the key projection alone.
_base_ = '../sclip_demo.py'
model = dict(backbone=dict(decoder=dict(attention=dict(projections=['k']))))
