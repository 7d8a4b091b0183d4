"""Calibration: from labelled images to score weights, a temperature and a threshold of `unknown` that hold.

One half of the images is fitted on, the other reported on. `calibrate.calibrate` does it all; `settings_file` writes
what a run picks up. Nothing is imported here: a run reads the settings file and needs neither scipy nor matplotlib.
"""
