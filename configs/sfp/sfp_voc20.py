_base_ = ['../_base_/models/sfp.py', '../_base_/datasets/voc20.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(vocabulary='voc20_people', class_names='PascalVOC20Dataset'))
