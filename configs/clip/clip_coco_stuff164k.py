_base_ = '../sclip_coco_stuff164k.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='VanillaSelfAttention'))))
