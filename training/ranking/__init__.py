"""Questions with answers that teach an MLLM to rank candidates."""
