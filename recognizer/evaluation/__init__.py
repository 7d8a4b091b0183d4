"""Accuracy on labelled images, each part of the score and the MLLM switched on in turn."""
