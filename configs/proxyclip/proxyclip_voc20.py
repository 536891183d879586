_base_ = ['../_base_/protocols/proxyclip.py', '../_base_/datasets/voc20.py']
model = dict(decode_head=dict(vocabulary='voc20_plain', class_names='PascalVOC20Dataset'))
