"""What models are trained for: a cluster's or a client's model, exported or put to use."""
