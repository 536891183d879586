# SCLIP's Table 3: CLIP's attention within 3 x 3 patches.
_base_ = '../sclip_context59.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='LocalSelfAttention', window=3))))
