"""Whether the nodes of a cluster are fit for a search: what each has, and what that means."""
