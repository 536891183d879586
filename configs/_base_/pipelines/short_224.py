# As short_336.py, with a short side of 224 pixels.
_base_ = './short_336.py'
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(scale=(2048, 224))
