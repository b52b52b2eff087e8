"""What ends a run before its last nodule."""


class RunAborted(Exception):
    """A run stopped before its last nodule; the message says why and what to do."""


class FailureBudgetExceeded(RunAborted):
    """More nodules failed than the recipe's failure budget allows."""


class NoWorkersError(RunAborted):
    """The scheduler had no workers for longer than the recipe allows."""


class SchedulerLostError(RunAborted):
    """The Dask scheduler is gone, and with it every nodule that was in flight."""
