"""From the scores of windows to the labels of an image: windows, geometry, scores at pixels, post-processing."""
