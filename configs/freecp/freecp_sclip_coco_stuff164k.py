_base_ = ['../_base_/protocols/freecp_sclip.py', '../_base_/datasets/coco_stuff164k.py']
model = dict(decode_head=dict(redundancy_thd=0.05, vocabulary='coco_stuff', class_names='COCOStuffDataset'))
