_base_ = ['../_base_/models/sc_clip.py', '../_base_/datasets/voc20.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(vocabulary='voc20', class_names='PascalVOC20Dataset'))
