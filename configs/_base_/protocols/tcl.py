# What TCL's configs have in common: its windows. Leaves add a short side of 448 pixels, and the datasets' own names.
_base_ = ['../models/tcl.py', '../default_runtime.py']
model = dict(test_cfg=dict(crop_size=(448, 448), stride=(224, 224), window_batch=4))  # 16 would take 6 GB of memory
