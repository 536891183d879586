_base_ = '../resclip/resclip_ade20k.py'
model = _base_.model
model.backbone.decoder.attention.base.base = dict(_delete_=True, type='CorrelativeSelfAttention', projections='q')
