# SCLIP's Table 4, mode 5, the setting of GroupViT and TCL: short side 448, windows of 448 every 224 pixels.
_base_ = '../sclip_voc21.py'
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(scale=(2048, 448))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(test_cfg=dict(crop_size=(448, 448), stride=(224, 224)))
