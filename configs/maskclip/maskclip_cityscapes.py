_base_ = '../sclip_cityscapes.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='IdentityAttention'))))
