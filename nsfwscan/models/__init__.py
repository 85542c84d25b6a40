"""Models: what they are (manifest), which are known (catalogue), where they live, how they run."""

import os

# From 1.32 on, the onnxruntime wheels for Linux keep a device id in the user's cache folder and
# send events to Microsoft, beginning some seconds after a session was made. Only this variable
# prevents both, and only when it is set before the library is loaded, which always comes later.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
