"""Automations of the Prefect server: a run whose machine is gone is noticed, and begins again.

    python -m flows.automations

The service `deployments` of docker-compose.yml registers them. Runs of a deployment send a sign of
life every `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` seconds, which docker-compose.yml sets.
"""

from datetime import timedelta
from typing import Any, cast

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

RESUMES = "resumes"
"""Tag of the deployments whose runs begin again after a crash: their flows compute only what is
missing."""

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
_ANY_RUN = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
_IS_RESUMABLE = ResourceSpecification(
    {"prefect.resource.id": f"prefect.tag.{RESUMES}", "prefect.resource.role": "tag"}
)

AUTOMATIONS = (
    Automation(
        name="Silent runs have crashed",
        description="A run whose process or machine is gone gives back its concurrency slot.",
        trigger=EventTrigger(
            match=_ANY_RUN,
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
    ),
    Automation(
        name="Crashed runs begin again",
        description=f"Runs of deployments with the tag `{RESUMES}` compute what is missing.",
        trigger=EventTrigger(
            match=_ANY_RUN,
            match_related=_IS_RESUMABLE,
            for_each={"prefect.resource.id"},
            expect={"prefect.flow-run.Crashed"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                message="The run crashed and begins again.",
            )
        ],
    ),
)


def register() -> None:
    """Create the automations on the server, or bring them up to date.

    One that is written again forgets which runs are silent, so those that are as they should be
    stay untouched: services are often started again just when a run was lost.
    """
    for automation in AUTOMATIONS:
        try:
            found = cast(Automation, Automation.read(name=automation.name))
        except ValueError:
            automation.create()
            continue
        if _content(found) != _content(automation):
            automation.model_copy(update={"id": found.id}).update()


def _content(automation: Automation) -> dict[str, Any]:
    """Return what an automation does, without the ids that the server gives."""
    return automation.model_dump(mode="json", include={"description", "trigger", "actions"})


if __name__ == "__main__":
    register()
