"""The paper, as a model card of TRL names it."""

CITATION = """\
@inproceedings{fan2025adaptive,
    title     = {Adaptive Divergence Regularized Policy Optimization for Fine-tuning Generative Models},
    author    = {Fan, Jiajun and Wei, Tong and Cheng, Chaoran and Chen, Yuxin and Liu, Ge},
    booktitle = {Advances in Neural Information Processing Systems},
    year      = 2025,
    eprint    = {arXiv:2510.18053},
}"""  # noqa: E501

PAPER = {
    "title": "Adaptive Divergence Regularized Policy Optimization for Fine-tuning "
    "Generative Models",
    "id": "2510.18053",
    "citation": CITATION,
}
"""The paper in TRL's words: title, arXiv id, and BibTeX entry."""
