"""python -m scaler: the same as the command `headstart`."""

from scaler.app.cli import main

main()
