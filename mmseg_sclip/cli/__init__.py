"""The command line. What lies here at module level must import without torch and without mmseg, except commands."""
