"""Benchmarks, and the chaos run. README.md describes how to run them."""
