"""Two processes that train together."""

import multiprocessing

from torch.multiprocessing import start_processes

# Each process is forked from one that has imported them: torch alone takes seconds.
multiprocessing.set_forkserver_preload(["open_clip", "training.engine"])


def on_two_ranks(work, *arguments):
    """Call a function with a rank, 0 or 1, and the arguments, in two processes at a time."""
    start_processes(work, arguments, nprocs=2, start_method="forkserver")
