"""From a checkpoint to a model package: graph, INT8, verification. Build time only."""

# First of all, because it switches onnxruntime's telemetry off before that is loaded.
import nsfwscan.models as _models

del _models
