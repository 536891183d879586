"""The command line: a module a command, each with `main(argv) -> int`. Nothing outside of it imports from here."""
