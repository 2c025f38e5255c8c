"""One run on one worker, in this process or as Ray starts it."""
