//! Layers: archives to directories.
