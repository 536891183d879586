_base_ = '../sclip_coco_object.py'
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='IdentityAttention'))))
