"""What holds for all tests: how long hypothesis may take, and that Ctrl-C works."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# Machines are shared and slow at times, which says nothing about the code.
settings.register_profile("gymbag", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gymbag")

# A shell has what it starts in the background ignore Ctrl-C, and so would the tests of it, and the processes
# that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
