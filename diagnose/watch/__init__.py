"""The user's own loop, watched from outside: hooks that record, a child that runs the script, the parent's judgement."""
