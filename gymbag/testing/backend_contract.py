"""The contract of a backend, as tests to inherit."""


class BackendContract:
    pass
