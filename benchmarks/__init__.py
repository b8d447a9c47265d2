"""What things cost: ``python -m benchmarks.requests``, ``benchmarks.store``, ``benchmarks.startup``. See README.md."""
