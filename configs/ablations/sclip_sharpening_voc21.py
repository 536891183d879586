# SCLIP's Table 3: CLIP's attention with its logits multiplied by 2.
_base_ = '../sclip_voc21.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='SharpenedSelfAttention', temperature=2))))
