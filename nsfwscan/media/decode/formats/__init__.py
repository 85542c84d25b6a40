"""One module per picture format: turns a file into what viewers show, as Pillow images."""
