# SCLIP's Table 4, mode 2, which is the default: short side 336, windows of 224 every 112 pixels.
_base_ = '../sclip_voc21.py'
