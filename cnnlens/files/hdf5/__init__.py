"""HDF5 read as data: an index of groups and datasets, no C parser, nothing followed out of the file."""
