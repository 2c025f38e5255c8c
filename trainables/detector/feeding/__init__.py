"""What a training is fed: samples of the data set, their transforms, and the order of draws."""
