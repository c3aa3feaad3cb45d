"""What an event on the target says."""

from dataclasses import dataclass, field
from typing import Any

from scaler.adapters.kubernetes.events import EventWriter, message_of
from scaler.core.decide import decide
from tests.builders import a_snapshot


@dataclass
class Events:
    """The part of the API server that keeps them; none is ever changed here."""

    created: list[dict[str, Any]] = field(default_factory=list)

    def create_event(self, namespace: str, body: dict[str, Any]) -> None:
        self.created.append(body)


def test_the_reason_of_a_hold_is_told_once() -> None:
    told = message_of(decide(a_snapshot(signals=None, problem="metrics: no answer")))
    assert told == "prod/chat-7b: keep 2 replicas (2 ready, 0 starting); held: metrics: no answer"


def test_a_target_that_was_made_anew_has_events_of_its_own() -> None:
    api, snapshot = Events(), a_snapshot()
    writer = EventWriter(api, lambda service: service)  # type: ignore[arg-type]  # events are all that is asked of it
    for uid in ("first", "first", "anew"):
        writer.write(snapshot.policy, decide(snapshot), uid)
    assert [event["involvedObject"]["uid"] for event in api.created] == ["first", "anew"]
