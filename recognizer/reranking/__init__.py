"""Reranking of result rows: rows become questions to an MLLM, and its rankings become rows again.

The entry points are `stage.rerank_in_background` for a run and `file.rerank_into` for a file of results; `open` opens
the MLLM that the settings name. This package must not know how an MLLM is asked, nor how a row was scored.
"""
