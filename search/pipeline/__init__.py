"""The use cases that train: each opens or makes a study, checks it, runs its work, and records it."""
