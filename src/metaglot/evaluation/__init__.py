"""Metrics, baselines, and the grid of shots × draws × languages."""
