"""The user's code in a process of its own: how it is started, told what to do, listened to, and how it may die.

``process`` is the parent's side, ``child`` the guard and the process that it starts, ``runner`` what is done there.
Spawned loader workers import this package, so nothing is imported here.
"""
