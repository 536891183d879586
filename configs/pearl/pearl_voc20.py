_base_ = ['../_base_/models/pearl.py', '../_base_/datasets/voc20.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(vocabulary='voc20', class_names='PascalVOC20Dataset'), test_cfg=dict(mode='whole'))
