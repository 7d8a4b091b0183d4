"""Fit score weights, temperature and the threshold of `unknown` to labelled images.

One half of the images is used to fit, the other to report. `calibrate.calibrate` is the entry point, `report.write`
stores the settings. A run reads these with `recognizer.memory_settings` and needs nothing from here, nor scipy nor
matplotlib.
"""
