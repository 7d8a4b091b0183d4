"""Everything that makes the starter encoder: picture sets, scenes composed of them, its class vectors and classifiers.

Each step is a command, in the order of the headers of `configs/train/starter*.yaml`: `scene_shards`, `sets`, `words`
(`classes` came before them all). These modules must not import the trainer, and nothing outside this folder but tests
imports them.
"""
