_base_ = ['../_base_/models/sc_clip.py', '../_base_/datasets/ade20k.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(vocabulary='ade20k', class_names='ADE20KDataset'))
