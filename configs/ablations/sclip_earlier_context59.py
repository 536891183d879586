# SCLIP's Table 3: CLIP's attention map of block 3 in the last block.
_base_ = '../sclip_context59.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='EarlierAttention', block=3))))
