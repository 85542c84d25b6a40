"""From the bytes of a picture file to pixels at the model's size."""
