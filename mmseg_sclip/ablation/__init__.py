"""The tables of the SCLIP paper as rows that can be run, and what the table tool writes of them."""
