# As trident_336.py, with a short side of 688 pixels.
_base_ = './trident_336.py'
test_pipeline = _base_.test_pipeline
test_pipeline[3].update(scale=(2048, 688))
