"""``python -m diagnose``."""

from diagnose.worker.isolation import own_packages_first

own_packages_first()

from diagnose.cli import main  # noqa: E402  (the current folder may hold a module that is named like one of ours)

if __name__ == "__main__":
    main()
