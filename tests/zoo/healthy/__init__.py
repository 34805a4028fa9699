"""Healthy look-alikes: programs that a checker of pipelines must stay silent on."""
