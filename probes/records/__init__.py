"""The records that measurements give: frozen dataclasses. Tensors in them are on the CPU, detached.

Names of parameters and modules are those of ``named_parameters`` and ``named_modules``.
"""
