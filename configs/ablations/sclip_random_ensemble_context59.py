# SCLIP's Table 2: the mean over the maps of several random matrices. The paper's number of matrices is not known to us.
_base_ = '../sclip_context59.py'
model = dict(
    backbone=dict(
        decoder=dict(attention=dict(projections=[dict(type='RandomProjection', count=4, seed=0)], reduction='mean'))
    )
)
