"""What Keras and its backends keep to themselves, and how it is reached.

The only place that touches their underscore attributes: a file for each kind of
secret. The attributes are the same from Keras 3.10 to 3.15.
"""
