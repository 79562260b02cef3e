"""A model without the channels that are switched off.

A channel is an index along one axis of a tensor: a unit, a filter, a feature.
The graph numbers them, `channels`, by what each kind of layer does to them,
`rules`. The plan finds which may go, and what becomes of the weights. The rest
is made anew of that.
"""
