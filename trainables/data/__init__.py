"""Data sets, on disk or drawn: what they hold, how they are split, how a trainer reads them."""
