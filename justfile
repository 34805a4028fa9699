# Tasks. `just NAME`

# install the package with everything for development
install:
    pip install -e '.[dev]'

# run the tests; further arguments go to pytest
test *ARGS:
    pytest {{ARGS}}

lint:
    ruff check
    ruff format --check

# mend what ruff can mend
format:
    ruff check --fix
    ruff format

types:
    mypy

# print docs/probes.md from the catalogue
docs:
    python -m diagnose.docs > docs/probes.md

# rewrite the JSON Schema of results.json
schema:
    python -m reports.schema

# rewrite the golden reports; read the difference before you commit it
golden:
    pytest tests/reports --update-golden

# the demo: a training that is stuck at chance
demo NAME="stuck":
    diagnose demo {{NAME}}

# what CI does, in a fresh virtual environment
ci:
    .ci/run
