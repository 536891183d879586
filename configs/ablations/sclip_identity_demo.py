# SCLIP's Table 2: the block's input itself is correlated, without a projection.
_base_ = '../sclip_demo.py'
model = dict(backbone=dict(decoder=dict(attention=dict(projections=['identity']))))
