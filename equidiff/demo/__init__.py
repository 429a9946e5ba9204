"""The demo: demonstrations, several policies trained on them, their evaluation on the same episodes, a report.

Stages run the scripts that a user would run and are reused when nothing that they depend on has changed.
"""
