"""One module a picture format: what of a file a viewer shows, as loaded Pillow images."""
