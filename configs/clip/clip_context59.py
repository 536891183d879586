_base_ = '../sclip_context59.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='VanillaSelfAttention'))))
