"""From floats to integers: `freeze` makes frozen networks' files, with programs in floats (`reals`)
to calibrate them, and `thaw` starts a training from a frozen network.
"""
