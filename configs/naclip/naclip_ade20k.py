_base_ = ['../_base_/protocols/naclip.py', '../_base_/datasets/ade20k.py']
model = dict(decode_head=dict(vocabulary='ade20k', class_names='ADE20KDataset'))
