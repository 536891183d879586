_base_ = ['../_base_/models/sfp.py', '../_base_/datasets/cityscapes.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(vocabulary='cityscapes_people', class_names='CityscapesDataset'))
