_base_ = ['../_base_/protocols/naclip.py', '../_base_/datasets/cityscapes.py']
model = dict(decode_head=dict(vocabulary='cityscapes', class_names='CityscapesDataset'))
