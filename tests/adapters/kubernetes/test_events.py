"""What an event on the target says."""

from scaler.adapters.kubernetes.events import message_of
from scaler.core.decide import decide
from tests.builders import a_snapshot


def test_the_reason_of_a_hold_is_told_once() -> None:
    told = message_of(decide(a_snapshot(signals=None, problem="metrics: no answer")))
    assert told == "prod/chat-7b: keep 2 replicas (2 ready, 0 starting); held: metrics: no answer"
