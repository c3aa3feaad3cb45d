import sys

from tests.servers.binaries import main

sys.exit(main(sys.argv[1:]))
