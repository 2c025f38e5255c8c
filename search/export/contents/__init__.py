"""What lies in a bundle beside the weights, each kind of file by itself."""
