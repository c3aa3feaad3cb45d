import os

# Before anything imports numpy or scikit-learn: parallel workers on few cores lose most of their time to idle threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.servers.fixtures"]
