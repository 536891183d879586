"""The tables of the SCLIP paper as rows that can be run, and the files that `ablate` writes."""
