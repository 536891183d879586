"""The arguments of the commands: a module per command with `parse(argv)`, without torch and MMSegmentation.

`--help` and wrong arguments are answered before those are imported, which takes seconds.
"""
