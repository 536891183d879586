_base_ = ['../_base_/protocols/freecp_sclip.py', '../_base_/datasets/cityscapes.py']
model = dict(
    decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'), test_cfg=dict(crop_size=(224, 224))
)
