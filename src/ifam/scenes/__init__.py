"""`scenes`: a generated data set with a background shortcut, for when there is no other. See `ifam.scenes.dataset`."""
