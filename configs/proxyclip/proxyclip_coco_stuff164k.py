_base_ = ['../_base_/protocols/proxyclip.py', '../_base_/datasets/coco_stuff164k_336.py']
model = dict(decode_head=dict(vocabulary='coco_stuff', class_names='COCOStuffDataset'))
