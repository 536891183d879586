_base_ = ['../_base_/models/sfp.py', '../_base_/datasets/context59.py', '../_base_/default_runtime.py']
model = dict(decode_head=dict(vocabulary='context59', class_names='PascalContextDataset59'))
