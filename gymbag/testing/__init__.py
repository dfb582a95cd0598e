"""Made-up recordings, comparing recordings, and the contract that every backend keeps."""

from gymbag.testing.backend_contract import BackendContract
from gymbag.testing.comparison import Comparison, compare
from gymbag.testing.generate import generate_monotonic, generate_random

__all__ = ["BackendContract", "Comparison", "compare", "generate_monotonic", "generate_random"]
