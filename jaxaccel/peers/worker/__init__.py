"""The child's side of jaxaccel.peers: a library on a device, which answers as jaxaccel.worker does."""
