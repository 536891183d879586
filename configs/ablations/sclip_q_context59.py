# SCLIP's Table 2: the query projection alone.
_base_ = '../sclip_context59.py'
model = dict(backbone=dict(decoder=dict(attention=dict(projections=['q']))))
