# SCLIP's Table 4, mode 4: short side 448, windows of 224 every 112 pixels (as a third party transcribes it).
_base_ = '../sclip_voc21.py'
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(2048, 448))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
