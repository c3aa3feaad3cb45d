"""The order is the policy: each line says why it stands there."""

from scaler.core.guardrails.base import Guardrail
from scaler.core.guardrails.bounds import bounds, paused
from scaler.core.guardrails.budget import budget
from scaler.core.guardrails.hold import rollout, stabilization, triggers
from scaler.core.guardrails.idle_window import idle_window
from scaler.core.guardrails.reactive_floor import panic, thresholds
from scaler.core.guardrails.step_limits import step_limits
from scaler.core.guardrails.surprise import surprise

GUARDRAILS: dict[str, Guardrail] = {
    "thresholds": thresholds,  # what is measured now outranks what was planned
    "panic": panic,  # so does demand far above what is ready
    "surprise": surprise,  # a forecast that is proven wrong may not let go
    "idle-window": idle_window,  # after the floors: zero only if none of them asks for a replica
    "triggers": triggers,  # rules of people about growth, over all that is computed
    "rollout": rollout,  # a way back needs the replicas that stand, whatever was computed
    "stabilization": stabilization,  # HPA order: windows first ...
    "step-limits": step_limits,  # ... then rates
    "budget": budget,  # after the rates too: what is not left cannot be spent at any rate
    "bounds": bounds,  # after the rates: a minimum holds at once
    "paused": paused,  # the last word
}
