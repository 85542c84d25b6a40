"""Builds a model package from a checkpoint: graph, INT8, verification. Not used by scans."""

# First, because it disables onnxruntime's telemetry, which must happen before that is loaded.
import nsfwscan.models as _models

del _models
