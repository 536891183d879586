_base_ = '../sclip_voc20.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='IdentityAttention'))))
