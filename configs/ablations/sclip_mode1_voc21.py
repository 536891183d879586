# SCLIP's Table 4, mode 1: short side 224, windows of 224 every 112 pixels.
_base_ = '../sclip_voc21.py'
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(2048, 224))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
