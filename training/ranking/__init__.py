"""Questions with answers about labelled images, which teach an MLLM to rank candidates (RAR, arXiv 2403.13805).

The entry point is `questions.write_ranking_data`, or on the command line `recognizer rank-data`; `formats` writes the
files of each trainer. This package must not know how an MLLM is trained, nor the encoder's training.
"""
