"""The automation of the Prefect server by which a run whose machine is gone has crashed.

    python -m flows.automations

The service `deployments` of docker-compose.yml registers it. Runs of a deployment send a sign of
life every `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` seconds, which docker-compose.yml sets. Those that
crashed begin again by flows/crashed_runs.py.
"""

from datetime import timedelta
from typing import Any, cast

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

SILENCE_S = 65
"""A run that is silent for so long has crashed: a sign of life is due every 30 seconds, and one may
be lost."""

FINAL_STATES = (
    *("Completed", "Failed", "Cancelled", "Crashed", "TimedOut"),
    *("Incomplete", "Stopped"),  # of flows.deployments.curate
)
"""Names of the states in which a run sends no further sign of life.

A heartbeat that the server gets after one of them, though it was sent before, is waited upon in
vain. The action is then refused by the server, in which no run that has ended becomes crashed.
"""

_HEARTBEAT = "prefect.flow-run.heartbeat"

SILENT_RUNS = Automation(
    name="Silent runs have crashed",
    description="A run whose process or machine is gone gives back its concurrency slot.",
    trigger=EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        after={_HEARTBEAT},
        expect={_HEARTBEAT, *(f"prefect.flow-run.{name}" for name in FINAL_STATES)},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SILENCE_S),
    ),
    actions=[
        ChangeFlowRunState(
            state=StateType.CRASHED, message=f"No sign of life for {SILENCE_S} seconds."
        )
    ],
)


def register() -> None:
    """Create the automation on the server, or bring it up to date.

    One that is written again forgets which runs are silent, so where it is as it should be it
    stays untouched: services are often started again just when a run was lost.
    """
    try:
        found = cast(Automation, Automation.read(name=SILENT_RUNS.name))
    except ValueError:
        SILENT_RUNS.create()
        return
    if _content(found) != _content(SILENT_RUNS):
        SILENT_RUNS.model_copy(update={"id": found.id}).update()


def _content(automation: Automation) -> dict[str, Any]:
    """Return what an automation does, without the ids that the server gives."""
    return automation.model_dump(mode="json", include={"description", "trigger", "actions"})


if __name__ == "__main__":
    register()
