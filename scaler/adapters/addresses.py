"""Addresses of the outside as they may be shown."""

import re

_PASSWORD = re.compile(r"(//[^/:@\s]*):\S*@")


def without_password(url: str) -> str:
    """`postgresql://scaler:***@db/headstart`: fit for messages, logs and screens; also inside a longer text."""
    return _PASSWORD.sub(r"\1:***@", url)
