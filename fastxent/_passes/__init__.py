"""One pass of the kernels over arrays, a file a kind of pass: blocks, between which Python looks at signals."""
