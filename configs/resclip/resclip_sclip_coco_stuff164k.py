_base_ = '../resclip/resclip_coco_stuff164k.py'
model = _base_.model
model.backbone.decoder.update(residual=True, ffn=True)
model.backbone.decoder.attention.base.base = dict(_delete_=True, type='CorrelativeSelfAttention')
