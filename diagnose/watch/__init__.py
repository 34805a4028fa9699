"""The user's own loop, watched: hooks that record, a child that runs the script, the parent's judgement."""
