import os

# Before anything imports numpy or scikit-learn: parallel workers on few cores lose most of their time to idle threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers.fixtures"]

# A run says something about the change and nothing about luck or how busy the machine is: the same examples each time
# and no time limits. `--hypothesis-profile=explore` looks for new ones.
_UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("explore", _UNHURRIED)
settings.register_profile("steady", _UNHURRIED, derandomize=True, database=None)
settings.load_profile("steady")
