"""The command: arguments in, a use case, an exit code out. Prints; beside it only `show.screens` does."""
