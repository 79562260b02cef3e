"""Private attributes of Keras and its backends, and functions to reach them.

The only place that touches them: a file for each kind. The attributes are the
same from Keras 3.10 to 3.16.
"""
