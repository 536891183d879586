_base_ = ['../_base_/models/sc_clip.py', '../_base_/datasets/cityscapes.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'))
