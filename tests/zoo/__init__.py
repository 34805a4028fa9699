"""Small training programs, healthy and faulty, on which the tool's answers are measured.

``cases`` says what a case is; ``programs``, ``faulty`` and ``healthy`` hold them; ``harm`` measures that a fault hurts.
"""
