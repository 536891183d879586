_base_ = ['../_base_/models/freecp_sclip.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
model = _base_.tiny_clip
