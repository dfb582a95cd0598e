"""Where recordings are kept: the contract of a backend, and the backends."""
