"""FedRC : a mixture of models that is blind to which labels a client has."""
