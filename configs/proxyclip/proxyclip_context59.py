_base_ = ['../_base_/protocols/proxyclip.py', '../_base_/datasets/context59.py']
model = dict(decode_head=dict(vocabulary='context59', class_names='PascalContextDataset59'))
