"""The errors a user can meet, from the most general to the most particular.

RecognizerError                 anything the command line prints as one sentence, without a traceback
  yaml_settings.SettingsError   an unknown setting, a bad value
  encoder.EncoderError          an encoder that cannot be made; EncoderUnavailable: weights or a package are missing
  images.ImageInputError        an input that names no images
  images.ImageError             one image that could not be read; becomes a row, never ends a run
  results.ResultsError          an output that cannot be written, a run that cannot be resumed
  labelled.LabelledSetError     labelled images that fit no category
  building.TemplateError        a template file without placeholders
  ranking_data.RankingDataError no question can be made of labelled images
  reranking.RerankNotConfigured reranking without an MLLM
  rerank_file.ResultsUnreadable a file to rerank that holds no results
"""

from __future__ import annotations


class RecognizerError(Exception):
    """What is wrong, with which value, and what to do, in one message meant for the user."""
