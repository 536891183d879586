# SCLIP's Table 2: one random matrix. The paper does not give its distribution; see RandomProjection.
_base_ = '../sclip_voc21.py'
model = dict(backbone=dict(decoder=dict(attention=dict(projections=[dict(type='RandomProjection', count=1, seed=0)]))))
