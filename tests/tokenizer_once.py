"""CLIP's tokenizer, made and described once in this process: either takes longer than all else of a tiny model."""

import functools

import open_clip.factory

from recognizer.encoder.open_clip import model

open_clip.factory.SimpleTokenizer = functools.cache(open_clip.factory.SimpleTokenizer)
model.describe_tokenizer = functools.cache(model.describe_tokenizer)
