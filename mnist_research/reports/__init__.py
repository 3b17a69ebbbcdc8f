"""Reports on runs, made from the plain files in their workdirs, without TensorFlow."""
