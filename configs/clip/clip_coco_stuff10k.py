_base_ = '../sclip_coco_stuff10k.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='VanillaSelfAttention'))))
