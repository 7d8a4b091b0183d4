"""Two processes that train together."""

from torch.multiprocessing import start_processes

import tests.forked  # noqa: F401  says what the processes are forked from


def on_two_ranks(work, *arguments):
    """Call a function with a rank, 0 or 1, and the arguments, in two processes at a time."""
    start_processes(work, arguments, nprocs=2, start_method="forkserver")
