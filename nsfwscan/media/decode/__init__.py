"""From the bytes of a picture file to pixels at the size of the model."""
