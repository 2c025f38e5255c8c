"""From a study file to what runs it on a cluster elsewhere."""
