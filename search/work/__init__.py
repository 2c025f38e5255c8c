"""What is to be done: queues of runs, and the protocol between a queue and what works it off."""
