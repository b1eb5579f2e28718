"""Delta-learning models on top of a parameter set. Nothing is here yet: they come with a later version."""
