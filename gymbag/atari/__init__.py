"""Atari datasets: d4rl-atari's environments and their data, on today's gym."""
