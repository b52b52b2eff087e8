"""What ends a run before its last nodule."""


class RunAborted(Exception):
    """A run stopped before its last nodule; the message says why and what to do."""


class FailureBudgetExceeded(RunAborted):
    """More nodules failed than the recipe's failure budget allows."""


class SchedulerLostError(RunAborted):
    """The Dask scheduler is gone, and with it every nodule that was in flight."""
