"""Making and trying the bundle: the program for computers without Python.

The folder above is called `packaging` and must never hold an `__init__.py`: with one, it would hide
the package `packaging` of the Python package index, which pip, pytest and PyInstaller import,
wherever the checkout is on the path.
"""
