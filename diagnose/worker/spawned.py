"""The main module of spawned loader workers: what a child must do before it unpickles the user's data set."""

from diagnose.worker.isolation import prefer_users_packages

prefer_users_packages()
