"""What holds for policies wherever they stand: the contract of the port PolicySource, run once for each home."""

from typing import Protocol

import pytest
import yaml

from scaler.domain.policy import ScalingPolicy
from scaler.errors import PolicyError


class WatchedPolicies(Protocol):
    def load(self) -> list[ScalingPolicy]: ...

    def problems(self) -> tuple[str, ...]: ...


class Home(Protocol):
    """Where policies stand, and what reads them there."""

    source: WatchedPolicies

    def put(self, name: str, spec: dict) -> None:
        """The policy of that name holds this spec from now on."""
        ...

    def remove(self, name: str) -> None: ...


def put(home: Home, name: str, spec: str) -> None:
    home.put(name, yaml.safe_load(spec))


def names(source: WatchedPolicies) -> set[str]:
    return {policy.metadata.name for policy in source.load()}


class PolicySourceContract:
    """Subclasses have a fixture `home`."""

    def test_a_change_is_seen_at_the_next_load(self, home: Home) -> None:
        put(home, "chat", "replicas: {max: 3}")
        (first,) = home.source.load()
        put(home, "chat", "replicas: {max: 7}")
        (second,) = home.source.load()
        assert (first.spec.replicas.max, second.spec.replicas.max) == (3, 7)

    def test_one_that_becomes_invalid_keeps_its_last_good_version_and_is_reported_until_it_is_mended(
        self, home: Home
    ) -> None:
        put(home, "chat", "replicas: {max: 3}")
        (first,) = home.source.load()
        put(home, "chat", "replicas: {min: 5, max: 3}")
        for _ in range(2):
            assert list(home.source.load()) == [first]
            (problem,) = home.source.problems()
            assert "spec.replicas: min = 5, must be <= max = 3" in problem
        put(home, "chat", "replicas: {max: 7}")
        (mended,) = home.source.load()
        assert mended.spec.replicas.max == 7
        assert home.source.problems() == ()

    def test_one_that_was_never_valid_takes_no_other_with_it(self, home: Home) -> None:
        put(home, "chat", "{}")
        put(home, "image", "startup: {expected: 99999999999d}")
        assert names(home.source) == {"chat"}
        assert "spec.startup.expected: found 99999999999d" in home.source.problems()[0]

    def test_a_misspelt_field_is_refused_with_the_nearest_known_name(self, home: Home) -> None:
        put(home, "chat", "{}")
        put(home, "image", "scaleToZero: {minIdel: 5m}")
        assert names(home.source) == {"chat"}
        assert "spec.scaleToZero.minIdel: unknown field; did you mean minIdle?" in home.source.problems()[0]

    def test_one_that_is_gone_is_gone(self, home: Home) -> None:
        put(home, "chat", "{}")
        put(home, "image", "{}")
        assert names(home.source) == {"chat", "image"}
        home.remove("chat")
        assert names(home.source) == {"image"}

    @pytest.mark.parametrize(
        ("spec", "refused"),
        [("mode: Enforce", True), ("safety: {promote: {after: 3d}}", True), ("mode: Observe", False)],
    )
    def test_one_policy_orders_replicas_of_a_target_and_others_watch(
        self, home: Home, spec: str, refused: bool
    ) -> None:
        put(home, "chat", "mode: Enforce")
        put(home, "two", f"target: {{name: chat}}\n{spec}")
        assert names(home.source) == ({"chat"} if refused else {"chat", "two"})
        assert ["two orders replicas of Deployment chat, which" in problem for problem in home.source.problems()] == [
            True
        ] * refused

    def test_a_set_without_any_valid_policy_is_an_error_that_says_why_not_an_empty_set(self, home: Home) -> None:
        put(home, "chat", "replicas: {min: 5, max: 3}")
        with pytest.raises(PolicyError, match=r"min = 5, must be <= max = 3"):
            home.source.load()
        home.remove("chat")
        with pytest.raises(PolicyError, match=r"no (policy|InferenceScalingPolicy) found"):
            home.source.load()
