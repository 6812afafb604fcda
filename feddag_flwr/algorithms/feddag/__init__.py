"""FedDAG: profile, fused similarity, clustering, complementarity graph, dual-encoder training."""
