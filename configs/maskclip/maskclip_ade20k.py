_base_ = '../sclip_ade20k.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='IdentityAttention'))))
