"""Between the pipeline and `rerank`: rows become questions to an MLLM, and its answers become rows again."""
