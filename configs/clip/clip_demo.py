_base_ = '../sclip_demo.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='VanillaSelfAttention'))))
