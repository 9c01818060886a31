"""Few-shot quality on public corpora: methods × shots × draws × held-out languages.

python -m benchmarks.fewshot --help
"""
