"""Tables of terms made up for tests, whose labels are drawn from a softmax that is known."""

import numpy as np

from recognizer.calibration.terms import TermTable
from recognizer.settings import TERMS


def make_table(values, truth):
    images, categories, _ = values.shape
    everything = np.broadcast_to(np.arange(categories), (images, categories))
    return TermTable(values.astype(np.float32), everything, np.zeros((images, categories)), np.asarray(truth, np.int64))


def drawn_table(rng, images, categories, weights, temperature, spread=1.0):
    """Terms of normal noise; labels drawn from softmax(sum_t w_t x_t / T)."""
    values = spread * rng.normal(size=(images, categories, len(TERMS)))
    logits = values @ np.asarray(weights) / temperature
    return make_table(values, (logits + rng.gumbel(size=logits.shape)).argmax(1))
