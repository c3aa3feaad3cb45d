"""What the operator sets: environment variables HEADSTART_<NAME>, overridden by flags of `headstart run`.

Every default stands here. A value that cannot be used is a SettingsError that names the variable and the flag.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from scaler.domain.fields import LONGEST_WINDOW, PositiveDuration, format_duration
from scaler.errors import SettingsError


def _address(value: object) -> object:
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535 or not host:
            raise ValueError("need HOST:PORT such as 127.0.0.1:8080")
        return host.strip("[]"), int(port)
    return value


def _headers(value: object) -> object:
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if any(not name.strip() or not equals for name, equals, _ in pairs):
            raise ValueError("need NAME=VALUE[,NAME=VALUE] such as X-Scope-OrgID=team-a")
        return {name.strip(): content.strip() for name, _, content in pairs}
    return value


def _pools(value: object) -> object:
    return _pools_in(value) if isinstance(value, str) else value


def _pools_in(text: str) -> dict[str, int]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    names = [name.strip() for name, _, _ in pairs]
    usable = all(name and count.strip().isdecimal() for name, (_, _, count) in zip(names, pairs, strict=True))
    if not usable or (text.strip() and not pairs):
        raise ValueError("need POOL=GPUS[,POOL=GPUS] such as a100=64,h100=16")
    if len(set(names)) < len(names):
        raise ValueError("need each pool once")
    return {name: int(count) for name, (_, _, count) in zip(names, pairs, strict=True)}


def read_pools(text: str, flag: str) -> dict[str, int]:
    """GPUs of each pool, from `a100=64,h100=16`. Raises SettingsError for anything else."""
    try:
        return _pools_in(text)
    except ValueError as error:
        raise SettingsError(f"{flag}: found {text!r}; {error}") from error


STALLED_AFTER_SECONDS = 60.0
STALLED_AFTER_TURNS = 4


def _as_far_as_turns_look(value: timedelta) -> timedelta:
    if value < LONGEST_WINDOW:
        raise ValueError(f"need at least {format_duration(LONGEST_WINDOW)}: so far back do turns look")
    return value


IN_CLUSTER = "cluster"


@dataclass(frozen=True)
class InCluster:
    """Policies are custom resources: of one namespace, or with "" of all."""

    namespace: str = ""

    def __str__(self) -> str:
        return f"namespace {self.namespace} of the cluster" if self.namespace else "the cluster"


def _policies(value: object) -> object:
    kind, colon, namespace = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind != IN_CLUSTER:
        return value
    if colon and not namespace:
        raise ValueError("need cluster, cluster:NAMESPACE, or a folder or file of policies")
    return InCluster(namespace)


Address = Annotated[tuple[str, int], NoDecode, BeforeValidator(_address)]


class Settings(BaseSettings):
    """One running service. Durations are service time, as in policies: 15s, 5m, 2h."""

    model_config = SettingsConfigDict(env_prefix="HEADSTART_", extra="ignore", frozen=True, env_ignore_empty=True)

    http: Address = ("127.0.0.1", 8080)
    """Where the page, the API, the metrics and the probes are served."""
    keda: Annotated[tuple[str, int] | None, NoDecode, BeforeValidator(_address)] = None
    """Where KEDA is served for policies with spec.target.actuation KEDA, in plain gRPC. None: it is not served."""
    policies: Annotated[Path | InCluster, NoDecode, BeforeValidator(_policies)] = Path("policies")
    """A folder of policy files, or one file; `cluster`: the custom resources of all namespaces, `cluster:NAMESPACE`: of
    one. Read again at every turn."""
    store: str = "sqlite:///headstart.db"
    """SQLAlchemy URL of the store of decisions and learned state."""
    keep: Annotated[PositiveDuration, AfterValidator(_as_far_as_turns_look)] = timedelta(days=30)
    """Decisions older than this are pruned; at least 1h, as far back as turns look."""
    turn: PositiveDuration = timedelta(seconds=15)
    """Time between two decisions: the HPA's sync period."""
    pools: Annotated[dict[str, int], NoDecode, BeforeValidator(_pools)] = Field(default_factory=dict)
    """GPUs that the endpoints of a pool (target.pool) may have together: a100=64,h100=16. A pool not named here is not
    limited."""
    time_scale: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 1.0
    """Service seconds per wall second. 1 in earnest; more for rehearsals: 60 plays a day in 24 minutes."""

    prometheus_url: str = "http://127.0.0.1:9090"
    """Prometheus, Thanos, Mimir or VictoriaMetrics."""
    prometheus_timeout: PositiveDuration = timedelta(seconds=5)
    """Wall time that one query may take, retries not counted."""
    prometheus_scrape_interval: PositiveDuration = timedelta(seconds=30)
    """Of the metrics server (wall time): rates are taken over four of them, or over one turn where that is longer."""
    prometheus_headers: Annotated[dict[str, str], NoDecode, BeforeValidator(_headers)] = Field(default_factory=dict)
    """Sent with every query: X-Scope-OrgID=team-a."""
    prometheus_bearer_token_file: Path | None = None
    prometheus_username: str = ""
    prometheus_password: SecretStr = SecretStr("")
    prometheus_ca_file: Path | None = None
    prometheus_cert_file: Path | None = None
    prometheus_key_file: Path | None = None

    kubeconfig: Path | None = None
    """None: the pod's service account, else the user's own kubeconfig."""
    kube_context: str = ""
    """Empty: the kubeconfig's current context."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    @property
    def wall_turn_seconds(self) -> float:
        return self.turn.total_seconds() / self.time_scale

    @property
    def stalled_after_seconds(self) -> float:
        """Wall time without a turn after which the loop counts as dead, and what it ordered as too old for KEDA."""
        return max(STALLED_AFTER_SECONDS, STALLED_AFTER_TURNS * self.wall_turn_seconds)

    def wall_seconds(self, service: timedelta) -> float:
        """How long a span of service time takes on the wall."""
        return service.total_seconds() / self.time_scale


def load_settings(**flags: Any) -> Settings:
    """Settings from the environment with the given flags on top; a flag that is None was not given.

    Raises SettingsError naming the first value that cannot be used, where it came from and what is allowed.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        where = f"--{name.replace('_', '-')}" if name in given else f"HEADSTART_{name.upper()}"
        allowed = first["msg"].removeprefix("Value error, ").replace("datetime.timedelta(0)", "0s")
        raise SettingsError(f"{where}: found {first['input']!r}; {allowed}") from error
