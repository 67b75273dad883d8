"""The sounds world: short clips and multiple-choice questions on them, with exact answers.

``meaning`` says what a clip and a question are; ``events``, ``music`` and ``speech`` draw the
questions of the three tasks; ``sets`` splits them by combination, draws sets and writes rows in
MMAU's format; ``synthesis`` and ``words`` make the single sounds, ``rendering`` the clip.
"""
