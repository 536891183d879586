# What CLIPtrase's configs have in common: its model part, whose values are those for 336 x 336 pixels. Leaves add such
# squares from the middle of image and ground truth, so the numbers cannot be compared with those of other methods.
# The official evaluation counts VOC's ignored outlines as background; here they are ignored.
_base_ = ['../models/cliptrase.py', '../default_runtime.py']
