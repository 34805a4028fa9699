"""Ordinary targets that ship with the tool: ``diagnose demo`` runs one of them like any user's pipeline."""
