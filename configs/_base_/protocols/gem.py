# What GEM's configs have in common. Leaves add squares of 448 pixels. Its author published the code for VOC only; the
# words are ClearCLIP's. Where there is a background it has no words, and the threshold is the 0.85 of GEM's example:
# on maps from 0 to 1 that can be reached with a factor such as CLIP's 100 only, which is our choice.
_base_ = ['../models/gem.py', '../default_runtime.py']
model = dict(test_cfg=dict(mode='whole', whole_resize='input'))
