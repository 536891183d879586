_base_ = '../../configs/sclip_demo.py'
custom_imports = dict(imports=['mmseg_sclip', 'two_streams'], allow_failed_imports=False)
# _delete_: the base's decoder has arguments that this one does not know.
decoder = dict(
    _delete_=True,
    type='MyTwoStreams',
    blocks=3,
    attention=dict(type='CorrelativeSelfAttention', projections='v'),
)
model = dict(backbone=dict(decoder=decoder))
