"""Models: manifest, catalogue of known models, installed packages, classifier."""

import os

# Since 1.32, the onnxruntime wheels for Linux store a device id in the user's cache folder and send
# events to Microsoft, some seconds after a session is created. Only this variable prevents both,
# and only if it is set before the library is loaded, which always happens later.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
