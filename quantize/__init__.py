"""From a checkpoint to a model package: graph, INT8, verification. Build time only."""
